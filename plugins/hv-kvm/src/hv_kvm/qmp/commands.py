"""The monitor commands that the driver uses on a guest, one typed function each.

The rest of the driver sees no JSON key. Enumerations grow with QEMU (reference: QAPI), so an unknown value is kept as
the string that came and never an error. Every function raises what `QmpClient.execute` raises, and QmpProtocolError
when a reply lacks what QAPI promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hv_kvm.qmp.client import COMMAND_DEADLINE_S, QmpClient
from hv_kvm.qmp.errors import QmpClosedError, QmpCommandError
from hv_kvm.qmp.replies import Reply, as_list, as_reply

__all__ = [
    "QUIT_DEADLINE_S",
    "RUN_STATES",
    "RunStatus",
    "Vcpu",
    "Version",
    "VncServer",
    "cont",
    "query_balloon",
    "query_cpus_fast",
    "query_name",
    "query_status",
    "query_uuid",
    "query_version",
    "query_vnc",
    "quit",
    "set_password",
    "stop",
    "system_powerdown",
]

QUIT_DEADLINE_S: Final = 60.0
"""Seconds that quit may take: QEMU first writes out what the guest's disks still hold."""

RUN_STATES: Final = frozenset(
    {
        "debug",
        "inmigrate",
        "internal-error",
        "io-error",
        "paused",
        "postmigrate",
        "prelaunch",
        "finish-migrate",
        "restore-vm",
        "running",
        "save-vm",
        "shutdown",
        "suspended",
        "watchdog",
        "guest-panicked",
        "colo",
        "preconfig",
    }
)
"""QAPI RunState as of QEMU 11.1. For completeness tests; a state outside it is not an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """``state`` is QAPI's RunState, or an unknown string from a newer QEMU; ``running`` means vCPUs execute."""

    state: str
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """For people only: nothing may branch on it. ``package`` is the distributor's text, often empty."""

    major: int
    minor: int
    micro: int
    package: str

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vcpu:
    """One virtual CPU and the host thread that runs it, as a pid in QEMU's own pid namespace."""

    index: int
    thread_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VncServer:
    """Where VNC listens; ``port`` is None and ``host`` a path when that is a unix socket."""

    host: str
    port: int | None


def query_status(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> RunStatus:
    """Whether the guest runs, and if not, why not."""
    reply = _ask(client, "query-status", deadline_s)
    return RunStatus(state=reply.need("status", str), running=reply.need("running", bool))


def query_version(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> Version:
    """QEMU's version, to show."""
    reply = _ask(client, "query-version", deadline_s)
    numbers = reply.part("qemu")
    return Version(
        major=numbers.need("major", int),
        minor=numbers.need("minor", int),
        micro=numbers.need("micro", int),
        package=reply.maybe("package", str, ""),
    )


def query_name(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> str | None:
    """The name that QEMU was started with, None if it was given none."""
    return _ask(client, "query-name", deadline_s).maybe("name", str, "") or None


def query_uuid(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> str:
    """The guest's UUID in lower case; all zero if QEMU was given none."""
    return _ask(client, "query-uuid", deadline_s).need("UUID", str).lower()


def query_cpus_fast(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> tuple[Vcpu, ...]:
    """The virtual CPUs that the guest has now, ordered by index. Does not interrupt them."""
    command = "query-cpus-fast"
    rows = as_list(client.execute(command, deadline_s=deadline_s), command=command, subject=client.subject)
    cpus = [Vcpu(index=row.need("cpu-index", int), thread_id=row.need("thread-id", int)) for row in rows]
    return tuple(sorted(cpus, key=lambda cpu: cpu.index))


def query_balloon(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> int | None:
    """The memory that the guest has now in bytes, less what its balloon holds; None without a balloon device."""
    try:
        return _ask(client, "query-balloon", deadline_s).need("actual", int)
    except QmpCommandError as error:
        if error.error_class == "DeviceNotActive":
            return None
        raise


def query_vnc(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> VncServer | None:
    """Where VNC listens; None when it is off or QEMU was built without it."""
    try:
        reply = _ask(client, "query-vnc", deadline_s)
    except QmpCommandError as error:
        if error.error_class == "CommandNotFound":
            return None
        raise
    if not reply.need("enabled", bool) or "host" not in reply:
        return None
    service = reply.maybe("service", str, "")
    if reply.maybe("family", str, "") == "unix" or not service.isascii() or not service.isdigit():
        return VncServer(host=service or reply.need("host", str), port=None)
    return VncServer(host=reply.need("host", str), port=int(service[:5]))


def stop(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Pause the vCPUs; harmless when they are paused. QEMU first completes the disk requests under way."""
    client.execute("stop", deadline_s=deadline_s)


def cont(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Let the vCPUs run; harmless when they do. QEMU refuses when an image is locked or the guest needs a reset."""
    client.execute("cont", deadline_s=deadline_s)


def system_powerdown(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Press the power button. Says nothing of whether the guest will react; a paused guest cannot."""
    client.execute("system_powerdown", deadline_s=deadline_s)


def set_password(client: QmpClient, *, protocol: str, password: str, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Set the password of a display, ``vnc`` or ``spice``; who is connected stays so."""
    client.execute("set_password", {"protocol": protocol, "password": password}, deadline_s=deadline_s)


def quit(client: QmpClient, *, deadline_s: float = QUIT_DEADLINE_S) -> None:  # noqa: A001  # QMP's name for it
    """Tell QEMU to end. Returns when it agreed or closed the monitor; whether it is gone only its pidfd can tell."""
    try:
        client.execute("quit", deadline_s=deadline_s)
    except QmpClosedError:
        client.close()


def _ask(client: QmpClient, command: str, deadline_s: float) -> Reply:
    return as_reply(client.execute(command, deadline_s=deadline_s), command=command, subject=client.subject)
