"""What a driver is: one required Protocol and small ones for the rest. A driver has what it implements.

There are no stub methods and no capability flags: the core asks ``isinstance(driver, Pausable)`` and
answers "driver chroot: does not support pause" itself.

The core calls a driver's methods only when the state table allows it, under the instance's lock,
with the record written. Drivers never check states, take locks, or write records themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from hvcore.errors import Problem
from hvcore.host.environment import Host, Live
from hvcore.model.finding import Finding
from hvcore.model.info import Observation
from hvcore.model.instance import Instance
from hvcore.model.outcome import Console
from hvcore.model.plan import Plan
from hvcore.model.state import Op
from hvcore.params.values import Params
from hvcore.state.job import Job

__all__ = [
    "ABILITIES",
    "Adopts",
    "Driver",
    "Examines",
    "Executes",
    "HasConsole",
    "HasLog",
    "OwesStop",
    "Pausable",
    "ReadsSpec",
    "capabilities",
]


class Driver(Protocol):
    """What every driver does. The entry point in group ``hvcore.drivers`` names a class with these.

    ``plugins`` are the driver's own hook implementations, ``(name, module or object)`` pairs;
    ``hookspecs`` are modules with hook specifications of its own, for extensions to implement.
    The class is constructed with one argument, the `hvcore.plugin.Hooks` of itself and its extensions.
    """

    name: ClassVar[str]
    plugins: ClassVar[tuple[tuple[str, object], ...]]
    hookspecs: ClassVar[tuple[object, ...]]

    def plan(self, instance: Instance, params: Params) -> Any:
        """The spec: a frozen dataclass of everything guest-visible, decided once. Pure: no file, clock or process.

        A reboot starts the saved spec and reads it back by the class that this method is annotated with.
        """

    def verify(self, spec: Any, host: Host) -> Iterable[Problem]:
        """Why this node cannot run it: files that are missing, abilities that the program lacks."""

    def describe(self, spec: Any, host: Host) -> Plan:
        """Everything a start would do, for people. Acquires nothing."""

    def start(self, spec: Any, job: Job) -> None:
        """Start it and return when it is ready. Raise when it cannot be: the core then undoes the ledger."""

    def observe(self, live: Live) -> Observation:
        """How it is doing now. Fast, without the lock, without changing anything; never raises for a dead guest.

        When it needs nothing of the driver, it can be a function in a module that imports little, and a static method
        here: ``observe = staticmethod(observe)``. A list of what runs then imports that module only.
        """

    def stop(self, live: Live, job: Job, *, force: bool) -> str:
        """End its processes within the job's deadline and say which rung worked. What it held, the core releases.

        Rungs of a guest that was asked are ``powerdown`` and ``script``; of one that was forced ``term``, ``quit`` and
        ``kill``. One that had ended before is ``gone``.
        """


@runtime_checkable
class Pausable(Protocol):
    """The driver can freeze a running instance and let it go on."""

    def pause(self, live: Live, job: Job) -> None:
        """Stop its cpus; return when they have stopped."""

    def resume(self, live: Live, job: Job) -> None:
        """Let them run again; return when they do."""


@runtime_checkable
class HasConsole(Protocol):
    """The driver has a console that a person can sit at."""

    def console(self, live: Live) -> Console:
        """How to reach it. Raises an `HvError` when this instance was started without one."""


@runtime_checkable
class Executes(Protocol):
    """The driver can run a program inside a running instance."""

    def execution(self, live: Live, argv: tuple[str, ...], *, terminal: bool) -> tuple[str, ...]:
        """The command of this node that runs ``argv`` inside, with its own stdin, stdout and stderr, and ends as it does.

        With ``terminal`` those are a terminal, and the program is to have one too. 128 + n stands for signal n.
        Raises an `HvError` when nothing can be run.
        """


@runtime_checkable
class HasLog(Protocol):
    """The driver keeps what an instance writes that nobody listens to: of scripts, of daemons, of the program itself."""

    def log(self, live: Live) -> Path:
        """The file, which only grows. Raises an `HvError` when this instance has none."""


@runtime_checkable
class Adopts(Protocol):
    """The driver can tell that a start which was interrupted had in fact succeeded."""

    def adopt(self, live: Live, job: Job) -> bool:
        """True when the instance is up as wanted, with its bindings and process recorded through the job."""


@runtime_checkable
class OwesStop(Protocol):
    """The driver can have something to do at a stop of an instance that has ended by itself."""

    def owes_stop(self, live: Live) -> bool:
        """True when it has, such as a script of the instance's own: a polite stop then calls `stop` all the same."""


@runtime_checkable
class ReadsSpec(Protocol):
    """The driver reads its spec back itself, because the type alone does not tell what is in it: devices of extensions."""

    def read_spec(self, data: object) -> Any:
        """The spec that `hvcore.plugin.encode` made the plain ``data`` of. Raises `RecordError` when it is not that."""


@runtime_checkable
class Examines(Protocol):
    """The driver can tell what this node has for it and what it lacks, without any instance: for ``hv doctor``."""

    def examine(self, host: Host) -> Iterable[Finding]:
        """Programs, devices and privileges: what is well, what is worth knowing, and what keeps it from working at all."""


ABILITIES: Final[Mapping[Op, tuple[type, str, type]]] = {
    Op.PAUSE: (Pausable, "pause", object),
    Op.RESUME: (Pausable, "resume", object),
    Op.CONSOLE: (HasConsole, "console", Console),
    Op.EXEC: (Executes, "execution", tuple),
    Op.LOG: (HasLog, "log", Path),
}
"""What not every driver can do: who can, by which method, and what that returns."""


def capabilities(driver: Driver) -> tuple[str, ...]:
    """What the driver can do beyond start and stop, by name: ``pause``, with which goes resume, ``console``, ..."""
    able = (op for op, (protocol, _, _) in ABILITIES.items() if isinstance(driver, protocol))
    return tuple(str(op) for op in able if op is not Op.RESUME)
