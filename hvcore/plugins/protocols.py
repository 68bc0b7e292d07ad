"""The methods of a driver: one required Protocol, and a small one for each ability.

There are no stub methods and no capability flags: the core checks ``isinstance(driver, Pausable)`` and reports
"driver chroot: does not support pause" itself.

The core calls a driver's methods only if the state table allows it, under the instance's lock, with the record
written. Drivers never check states, take locks or write records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from hvcore.deadline import Deadline
from hvcore.errors import Problem
from hvcore.host.environment import Host, Live
from hvcore.model.abi import Abi
from hvcore.model.answers import Console, Finding
from hvcore.model.events.watched import Watched
from hvcore.model.instance import Instance
from hvcore.model.migration.transfer import Offer
from hvcore.model.observation import Observation
from hvcore.model.plan import Plan
from hvcore.model.state import Op
from hvcore.model.tuned import Pins, Reached
from hvcore.model.upgrade import Upgrade
from hvcore.model.usage import Usage
from hvcore.params.values import Params
from hvcore.plugins.button_protocols import PowersDown, Resets, SendsKeys, SendsNmi
from hvcore.plugins.device_protocols import Attaches, ChangesMedia, Modifies, ResizesDisks
from hvcore.plugins.migration_protocols import Migrates
from hvcore.state.job import Job

__all__ = [
    "ABILITIES",
    "Adopts",
    "Balloons",
    "ChecksUpgrades",
    "Driver",
    "Examines",
    "ExaminesWithValues",
    "Executes",
    "HasConsole",
    "HasConsoleLog",
    "HasGuestAbi",
    "HasLog",
    "HasSizes",
    "HasVersion",
    "HasVncPassword",
    "Measures",
    "NeedsStop",
    "Pausable",
    "Pinnable",
    "ReadsSpec",
    "ResizesMemory",
    "ResizesVcpus",
    "TakesScreenshots",
    "Watchable",
    "capabilities",
]


class Driver(Protocol):
    """The methods that every driver has. The entry point in group ``hvcore.drivers`` names a class with these.

    ``plugins`` are the driver's hook implementations, as ``(name, module or object)`` pairs. ``hookspecs`` are modules
    with the driver's own hook specifications, for extensions to implement. The class is constructed with one argument,
    the `hvcore.plugin.Hooks` of the driver and its extensions.
    """

    name: ClassVar[str]
    plugins: ClassVar[tuple[tuple[str, object], ...]]
    hookspecs: ClassVar[tuple[object, ...]]

    def plan(self, instance: Instance, params: Params) -> Any:
        """The spec: a frozen dataclass of everything guest-visible, decided once. Pure: no file, clock or process.

        A reboot starts the saved spec. It is decoded into the class in this method's return annotation.
        """

    def verify(self, spec: Any, host: Host) -> Iterable[Problem]:
        """Problems that keep this node from running the instance: missing files, abilities that the program lacks."""

    def describe(self, spec: Any, host: Host) -> Plan:
        """The steps of a start, for people. Acquires nothing."""

    def start(self, spec: Any, job: Job) -> None:
        """Start the instance and return when it is ready. Raise if that fails: the core then undoes the ledger."""

    def observe(self, live: Live) -> Observation:
        """The instance's state now. Fast, without the lock, without changes; never raises for a dead guest.

        If it does not need the driver object, write it as a function in a module with few imports, and add it here as a
        static method: ``observe = staticmethod(observe)``. `hv list` then imports only that module.
        """

    def stop(self, live: Live, job: Job, *, force: bool) -> str:
        """End the instance's processes within the job's deadline and return how. The core releases its resources.

        A guest that obeyed a polite stop is stopped by ``powerdown`` or ``script``, a forced one by ``term``, ``quit`` or
        ``kill``. ``gone`` means that it had ended before.
        """


@runtime_checkable
class Pausable(Protocol):
    """The driver can pause and resume a running instance."""

    def pause(self, live: Live, job: Job) -> None:
        """Stop the instance's CPUs and return when they have stopped."""

    def resume(self, live: Live, job: Job) -> None:
        """Start the CPUs again and return when they run."""


@runtime_checkable
class ChecksUpgrades(Protocol):
    """The driver can say what another version of its program would change for an instance."""

    def upgrade(self, spec: Any, host: Host, program: str, *, live: Live | None) -> Upgrade:
        """What the program at that path would change. Starts no instance. Called for several instances at once.

        ``live`` is the instance if it runs: its program file may have been replaced since its start. Raises
        `InputError` if the program is not one of this driver.
        """


@runtime_checkable
class HasGuestAbi(Protocol):
    """The driver can say what an instance sees of its machine."""

    def guest_abi(self, spec: Any, host: Host) -> Abi:
        """The facts about the machine, with this node's disks and programs. Starts and changes nothing.

        The same spec gives the same facts on every node, unless the instance would see a difference. Two lists are compared
        before an instance moves, is restored, or is started by another version of the program.
        """


@runtime_checkable
class HasConsole(Protocol):
    """The driver has an interactive console."""

    def console(self, live: Live) -> Console:
        """How to reach the console. Raises an `HvError` if this instance was started without one."""


@runtime_checkable
class Executes(Protocol):
    """The driver can run a program inside a running instance."""

    def execution(self, live: Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
        """The command on this node that runs ``argv`` inside, with the command's stdin, stdout, stderr and exit status.

        With ``terminal`` these are a terminal, and the program gets one too. Exit status 128 + n means signal n.
        Raises an `HvError` if the instance cannot run programs.
        """


@runtime_checkable
class HasLog(Protocol):
    """The driver keeps the output of an instance that has no reader: of scripts, of daemons, of the program itself."""

    def log(self, live: Live) -> Path:
        """The log file, which only grows. Raises an `HvError` if this instance has none."""


@runtime_checkable
class HasConsoleLog(Protocol):
    """The driver keeps what an instance wrote to its console, also without a connected user."""

    def console_log(self, live: Live) -> Path:
        """The file with the end of it, as `hvcore.plugin.OutputHistory` keeps it. Raises an `HvError` without such a file."""


@runtime_checkable
class Measures(Protocol):
    """The driver can measure more of its running instances than `Driver.observe` does, all at once."""

    def usage(self, lives: Sequence[Live], deadline: Deadline) -> Sequence[Usage]:
        """What each of these instances uses, in their order. Called without their locks; changes nothing.

        Returns by the deadline. An instance that cannot be asked gets a `Usage` with a ``problem``; the others have their
        figures. So ask all at the same time, or give each a part of the deadline.
        """


@runtime_checkable
class Balloons(Protocol):
    """The driver can take memory from a running guest, and give it back."""

    def balloon(self, live: Live, job: Job, memory_mib: int) -> Reached:
        """Let the guest use that much memory, and return the size that it has reached, by the deadline at the latest.

        Raises an `HvError` for a size that is not possible, before anything is changed. A guest that does not obey is no
        error. The size is kept for a reboot, in the spec.
        """


@runtime_checkable
class ResizesMemory(Protocol):
    """The driver can change the memory that a running instance has, within limits that its start has set."""

    def resize_memory(self, live: Live, job: Job, memory_mib: int) -> Reached:
        """Give the instance that much memory. Returns and raises as `Balloons.balloon`; the core changes the instance."""


@runtime_checkable
class ResizesVcpus(Protocol):
    """The driver can change the number of processors of a running instance, within limits that its start has set."""

    def resize_vcpus(self, live: Live, job: Job, vcpus: int) -> Reached:
        """Give the instance that many. Returns and raises as `Balloons.balloon`; the core changes the instance."""


@runtime_checkable
class HasSizes(Protocol):
    """The driver knows beforehand which memory and how many processors a running instance can get."""

    def sizes(self, spec: Any) -> Mapping[str, range]:
        """The values that the instance of that spec can get while it runs: ``{"memory_mib": range(512, 2049, 2)}``. Pure.

        The keys are ``memory_mib`` and ``vcpus``. One that is missing cannot change. `hv changes` and `hv apply` ask.
        """


@runtime_checkable
class Pinnable(Protocol):
    """The driver can pin the threads of a running instance to CPUs of the node."""

    def pin(self, live: Live, job: Job, pins: Pins) -> bool:
        """Pin the threads as the clean lists say, and keep that for a reboot, in the spec. Whether anything was changed.

        Raises an `HvError` for a vCPU that does not exist, and for CPUs that the instance may not use; then all threads
        are as they were.
        """


@runtime_checkable
class TakesScreenshots(Protocol):
    """The driver can take a picture of an instance's display."""

    def screenshot(self, live: Live, job: Job) -> bytes:
        """The picture as a PNG file. Raises an `HvError` if this instance has no display, or one too large."""


@runtime_checkable
class HasVncPassword(Protocol):
    """The driver can set the password of an instance's VNC display while it runs."""

    def vnc_password(self, live: Live, job: Job, password: str, valid_s: float | None) -> None:
        """Set the password of new connections, and let none in after ``valid_s`` seconds; None is without a limit.

        The password may be in no file, log, command line or message. Raises an `HvError` if this instance was started
        without a VNC display that asks for one.
        """


@runtime_checkable
class HasVersion(Protocol):
    """The driver can name the version of its hypervisor, for the facts about a node."""

    def version(self, host: Host, params: Params) -> str:
        """Name and version, such as ``QEMU 7.2.22``. ``params`` are the values of the node, and defaults.

        Raises an `HvError` if the hypervisor is not installed.
        """


@runtime_checkable
class Adopts(Protocol):
    """The driver can find out whether an interrupted start had succeeded."""

    def adopt(self, live: Live, job: Job) -> bool:
        """True if the instance is up as requested, and its bindings and process are recorded through the job."""


@runtime_checkable
class NeedsStop(Protocol):
    """A stop may need the driver even if the instance has shut down before."""

    def needs_stop(self, live: Live) -> bool:
        """Whether this instance needs it, for example to run its stop script. A polite stop then calls `stop`."""


@runtime_checkable
class ReadsSpec(Protocol):
    """The driver decodes its spec, because the type does not determine its contents, such as devices of extensions."""

    def read_spec(self, data: object) -> Any:
        """The spec that `hvcore.plugin.encode` turned into the plain ``data``. Raises `RecordError` for other data."""


@runtime_checkable
class Watchable(Protocol):
    """The program of an instance writes its events to files, and the driver can read them, for `Node.watch`.

    Start, end and, if the driver can pause, pauses of an instance are events of every driver.
    """

    def watched(self, live: Live) -> Watched:
        """The files, and the programs beside the instance. Called again when the record has changed.

        The guest may have written the lines: a reader takes any, and is quick.
        """


@runtime_checkable
class Examines(Protocol):
    """The driver can report what this node provides for it and lacks, without any instance: for ``hv doctor``."""

    def examine(self, host: Host) -> Iterable[Finding]:
        """Findings about programs, devices and privileges: good ones, notes, and problems that make the driver unusable."""


@runtime_checkable
class ExaminesWithValues(Protocol):
    """Like `Examines`, for a driver whose findings depend on values that the node sets for all its instances."""

    def examine_with(self, host: Host, params: Params) -> Iterable[Finding]:
        """Findings with those ``params``: the values of the node, and defaults. Called in place of ``examine``."""


ABILITIES: Final[Mapping[Op, tuple[type, str, type]]] = {
    Op.PAUSE: (Pausable, "pause", object),
    Op.RESUME: (Pausable, "resume", object),
    Op.CONSOLE: (HasConsole, "console", Console),
    Op.EXEC: (Executes, "execution", tuple),
    Op.LOG: (HasLog, "log", Path),
    Op.CONSOLE_LOG: (HasConsoleLog, "console_log", Path),
    Op.SCREENSHOT: (TakesScreenshots, "screenshot", bytes),
    Op.VNC_PASSWORD: (HasVncPassword, "vnc_password", object),
    Op.RESET: (Resets, "reset", object),
    Op.POWERDOWN: (PowersDown, "powerdown", object),
    Op.SEND_KEY: (SendsKeys, "send_keys", object),
    Op.NMI: (SendsNmi, "nmi", object),
    Op.ATTACH: (Attaches, "attached", tuple),
    Op.DETACH: (Attaches, "detached", object),
    Op.BALLOON: (Balloons, "balloon", Reached),
    Op.MEMORY: (ResizesMemory, "resize_memory", Reached),
    Op.VCPUS: (ResizesVcpus, "resize_vcpus", Reached),
    Op.UPGRADE_CHECK: (ChecksUpgrades, "upgrade", Upgrade),
    Op.ABI: (HasGuestAbi, "guest_abi", Abi),
    Op.PIN: (Pinnable, "pin", bool),
    Op.MIGRATE: (Migrates, "offer", Offer),
    Op.INSERT: (ChangesMedia, "with_medium", object),
    Op.EJECT: (ChangesMedia, "with_medium", object),
    Op.RESIZE: (ResizesDisks, "resize_disk", object),
    Op.MODIFY: (Modifies, "modified", object),
}
"""Optional operations: the protocol, the method and the type of its result."""


_IMPLIED: Final = (Op.RESUME, Op.DETACH, Op.EJECT)


def capabilities(driver: Driver) -> tuple[str, ...]:
    """Names of the driver's abilities besides start and stop: ``pause``, which includes resume, ``attach``, ..."""
    able = (op for op, (protocol, _, _) in ABILITIES.items() if isinstance(driver, protocol))
    return tuple(str(op) for op in able if op not in _IMPLIED)
