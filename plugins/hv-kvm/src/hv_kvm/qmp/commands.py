"""The monitor commands that the driver uses on a guest, one typed function each.

The rest of the driver sees no JSON key. Enumerations grow with QEMU (reference: QAPI), so an unknown value is kept as a
string and is never an error. Every function raises the errors of `QmpClient.execute`, and QmpProtocolError when a reply
lacks a member that QAPI promises.
"""

from __future__ import annotations

from collections.abc import Sequence

from hv_kvm.qmp.client import COMMAND_DEADLINE_S, QmpClient
from hv_kvm.qmp.errors import QmpClosedError, QmpCommandError
from hv_kvm.qmp.replies import ask, ask_rows
from hvcore.plugin import dataclass

__all__ = [
    "RunStatus",
    "Vcpu",
    "VncServer",
    "cont",
    "expire_password",
    "inject_nmi",
    "query_cpus_fast",
    "query_status",
    "query_vnc",
    "quit",
    "screendump",
    "send_key",
    "set_password",
    "stop",
    "system_powerdown",
    "system_reset",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """``state`` is QAPI's RunState, or an unknown string from a newer QEMU; ``running`` means vCPUs execute."""

    state: str
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Vcpu:
    """One virtual CPU and the host thread that runs it, as a pid in QEMU's pid namespace."""

    index: int
    thread_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VncServer:
    """The address of VNC; for a unix socket ``port`` is None and ``host`` a path."""

    host: str
    port: int | None


def query_status(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> RunStatus:
    """Whether the guest runs, and its run state."""
    reply = ask(client, "query-status", deadline_s)
    return RunStatus(state=reply.need("status", str), running=reply.need("running", bool))


def query_cpus_fast(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> tuple[Vcpu, ...]:
    """The virtual CPUs that the guest has now, ordered by index. Does not interrupt them."""
    rows = ask_rows(client, "query-cpus-fast", deadline_s)
    cpus = [Vcpu(index=row.need("cpu-index", int), thread_id=row.need("thread-id", int)) for row in rows]
    return tuple(sorted(cpus, key=lambda cpu: cpu.index))


def query_vnc(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> VncServer | None:
    """The address of VNC; None when VNC is off or QEMU was built without it."""
    try:
        reply = ask(client, "query-vnc", deadline_s)
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
    """Pause the vCPUs; harmless when they are paused. QEMU first completes the current disk requests."""
    client.execute("stop", deadline_s=deadline_s)


def cont(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Let the vCPUs run; harmless when they run. QEMU refuses when an image is locked or the guest needs a reset."""
    client.execute("cont", deadline_s=deadline_s)


def system_powerdown(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Press the power button. The guest may ignore it; a paused guest cannot react."""
    client.execute("system_powerdown", deadline_s=deadline_s)


def system_reset(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Reset the machine. A paused guest stays paused."""
    client.execute("system_reset", deadline_s=deadline_s)


def send_key(client: QmpClient, keys: Sequence[str], *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Press these keys together, for QEMU's 100 ms. Returns at once; QEMU presses the next ones after that."""
    given = [{"type": "qcode", "data": key} for key in keys]
    client.execute("send-key", {"keys": given}, deadline_s=deadline_s)


def inject_nmi(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Send a non-maskable interrupt to the CPUs. QEMU refuses for a machine that has none."""
    client.execute("inject-nmi", deadline_s=deadline_s)


def set_password(client: QmpClient, *, protocol: str, password: str, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Set the password of a display, ``vnc`` or ``spice``; open connections stay open."""
    client.execute("set_password", {"protocol": protocol, "password": password}, deadline_s=deadline_s)


def expire_password(
    client: QmpClient, *, protocol: str, valid_s: int | None, deadline_s: float = COMMAND_DEADLINE_S
) -> None:
    """From so many seconds from now on, the display lets no new client in; None is never. Open connections stay open."""
    time = "never" if valid_s is None else f"+{valid_s}"
    client.execute("expire_password", {"protocol": protocol, "time": time}, deadline_s=deadline_s)


def screendump(client: QmpClient, fd: int, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Write the picture of the first graphics card as PPM to ``fd``, which has to be open for writing only.

    QEMU gets the descriptor: it cannot open files of the caller.
    """
    fdset = ask(client, "add-fd", deadline_s, fds=(fd,)).need("fdset-id", int)
    try:
        client.execute("screendump", {"filename": f"/dev/fdset/{fdset}"}, deadline_s=deadline_s)
    finally:
        if not client.closed:
            client.execute("remove-fd", {"fdset-id": fdset}, deadline_s=COMMAND_DEADLINE_S)


def quit(client: QmpClient, *, deadline_s: float) -> None:  # noqa: A001  # QMP's name for it
    """Tell QEMU to exit. Returns when it has agreed or closed the monitor; only its pidfd shows when it has exited."""
    try:
        client.execute("quit", deadline_s=deadline_s)
    except QmpClosedError:
        client.close()
