"""The monitor commands that move a guest to another QEMU, as `commands`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hv_kvm.qmp.client import COMMAND_DEADLINE_S, QmpClient
from hv_kvm.qmp.errors import QmpCommandError
from hv_kvm.qmp.replies import Reply, ask, ask_rows
from hvcore.plugin import dataclass

__all__ = [
    "Migration",
    "announce_self",
    "closefd",
    "getfd",
    "migrate",
    "migrate_cancel",
    "migrate_continue",
    "migrate_incoming",
    "migrate_set_capabilities",
    "migrate_set_parameters",
    "migrate_start_postcopy",
    "query_migrate",
    "query_migrate_capabilities",
    "query_migrate_parameters",
]

_ANNOUNCED_MS: Final = {"initial": 50, "max": 550, "rounds": 5, "step": 100}
_MEGABITS: Final = 125_000  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """What QEMU says about a migration, on either side. ``status`` is QAPI's MigrationStatus, empty before any."""

    status: str = ""
    transferred: int = 0
    remaining: int = 0
    total: int = 0
    rate_bps: int = 0
    dirty_bps: int = 0
    expected_downtime_ms: int | None = None
    downtime_ms: int | None = None
    total_ms: int | None = None
    error: str = ""
    blocked: tuple[str, ...] = ()


def query_migrate(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> Migration:
    """How far the migration is, and what keeps the guest from one."""
    reply = ask(client, "query-migrate", deadline_s)
    ram = reply.part("ram") if "ram" in reply else None
    page_bytes = 0 if ram is None else ram.maybe("page-size", int, 0)
    return Migration(
        status=reply.maybe("status", str, ""),
        transferred=_of(ram, "transferred"),
        remaining=_of(ram, "remaining"),
        total=_of(ram, "total"),
        rate_bps=0 if ram is None else _rate(ram),
        dirty_bps=_of(ram, "dirty-pages-rate") * page_bytes,
        expected_downtime_ms=_maybe(reply, "expected-downtime"),
        downtime_ms=_maybe(reply, "downtime"),
        total_ms=_maybe(reply, "total-time"),
        error=reply.maybe("error-desc", str, ""),
        blocked=tuple(sorted(reply.names("blocked-reasons"))) if "blocked-reasons" in reply else (),
    )


def _of(ram: Reply | None, key: str) -> int:
    return 0 if ram is None else ram.maybe(key, int, 0)


def _maybe(reply: Reply, key: str) -> int | None:
    return reply.need(key, int) if key in reply else None


def _rate(ram: Reply) -> int:
    """Bytes per second. QEMU sends a number with a fraction, or an integer if it has none."""
    megabits = ram.number("mbps")
    return int(megabits * _MEGABITS)


def query_migrate_capabilities(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> dict[str, bool]:
    """The abilities that this QEMU has for migrations, and whether each is on."""
    rows = ask_rows(client, "query-migrate-capabilities", deadline_s)
    return {row.need("capability", str): row.need("state", bool) for row in rows}


def migrate_set_capabilities(
    client: QmpClient, states: Mapping[str, bool], *, deadline_s: float = COMMAND_DEADLINE_S
) -> None:
    """Switch abilities on or off. QEMU refuses during a migration, and those that exclude each other."""
    rows = [{"capability": name, "state": state} for name, state in states.items()]
    client.execute("migrate-set-capabilities", {"capabilities": rows}, deadline_s=deadline_s)


def query_migrate_parameters(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> dict[str, Any]:
    """The parameters of migrations, such as ``max-bandwidth`` in bytes per second."""
    found: dict[str, Any] = client.execute("query-migrate-parameters", deadline_s=deadline_s)
    return found


def migrate_set_parameters(
    client: QmpClient, values: Mapping[str, Any], *, deadline_s: float = COMMAND_DEADLINE_S
) -> None:
    """Set parameters; bandwidth and downtime also while the migration runs."""
    client.execute("migrate-set-parameters", dict(values), deadline_s=deadline_s)


def migrate(client: QmpClient, uri: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Begin to send the guest there. Returns before the stream is up; `query_migrate` shows a failure."""
    client.execute("migrate", {"uri": uri}, deadline_s=deadline_s)


def migrate_incoming(client: QmpClient, uri: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Wait for a guest there; QEMU listens when this returns. Newer QEMUs refuse a second address."""
    client.execute("migrate-incoming", {"uri": uri}, deadline_s=deadline_s)


def migrate_cancel(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """End the migration. QEMU 7.2 obeys also after the switch to postcopy, when two copies can run: never then."""
    client.execute("migrate_cancel", deadline_s=deadline_s)


def migrate_continue(client: QmpClient, state: str, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Go on from that status, in which the migration waits."""
    client.execute("migrate-continue", {"state": state}, deadline_s=deadline_s)


def migrate_start_postcopy(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Let the other QEMU run the guest from now on. Returns before the status changes."""
    client.execute("migrate-start-postcopy", deadline_s=deadline_s)


def announce_self(client: QmpClient, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Tell the network where the addresses of the guest are now. Returns at once."""
    client.execute("announce-self", _ANNOUNCED_MS, deadline_s=deadline_s)


def getfd(client: QmpClient, name: str, fd: int, *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Give QEMU a descriptor by a name; one of the same name is closed."""
    client.execute("getfd", {"fdname": name}, deadline_s=deadline_s, fds=(fd,))


def closefd(client: QmpClient, names: Iterable[str], *, deadline_s: float = COMMAND_DEADLINE_S) -> None:
    """Close descriptors that QEMU was given and has not used; those that it does not have are fine."""
    for name in names:
        try:
            client.execute("closefd", {"fdname": name}, deadline_s=deadline_s)
        except QmpCommandError as error:
            if "not found" not in error.desc:
                raise
