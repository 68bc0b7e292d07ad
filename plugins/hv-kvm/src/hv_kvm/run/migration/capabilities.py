"""QEMU's capabilities and parameters for a migration: which are on, and which cannot be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import hvcore.plugin as hv
from hv_kvm.qmp import QmpClient, migration_commands

__all__ = ["MIRROR", "POSTCOPY_RAM", "parameters", "set_for", "states", "unusable"]

MIRROR: Final = "mirror"
"""The storage of nodes that have their own disks each."""

POSTCOPY_RAM: Final = "postcopy-ram"

_ALWAYS: Final = frozenset({"return-path", "events", "validate-uuid"})
# Without it the target has the lock on its disks before the source ends: of two that let the guest run, one is refused.
_NEVER: Final = "late-block-activate"

_RELAYED: Final = "the stream goes through a relay"
_UNUSABLE: Final[Mapping[str, str]] = {
    _NEVER: "it lets both sides write to a disk",
    "block": "it copies disks without protection",
    "mapped-ram": "it is for files",
    "rdma-pin-all": _RELAYED,
    "x-ignore-shared": "it is for one node",
    "zero-copy-send": _RELAYED,
}
_NO_LIMIT_BPS: Final = 1 << 40  # QEMU before 8.1 takes 0 for no limit


def states(available: Mapping[str, bool], asked: Iterable[str], *, postcopy: bool, mirror: bool) -> dict[str, bool]:
    """The capabilities to change, of those that this QEMU has. Pure."""
    wanted = {*_ALWAYS, *asked} - {_NEVER}
    wanted |= {POSTCOPY_RAM} if postcopy else set()
    wanted |= {"pause-before-switchover"} if mirror else set()
    return {name: name in wanted for name, on in available.items() if on is not (name in wanted)}


def unusable(available: Iterable[str], asked: Iterable[str], *, postcopy: bool) -> Iterator[str]:
    """Each capability that is wanted and cannot be on, with the reason. Pure."""
    has = set(available)
    for name in asked:
        if name in _UNUSABLE:
            yield f"{name} is not possible: {_UNUSABLE[name]}"
        elif name not in has:
            yield f"{name} is not known to this QEMU"
    if postcopy and POSTCOPY_RAM not in has:
        yield f"{POSTCOPY_RAM} is not known to this QEMU"


def parameters(tuning: hv.Tuning) -> dict[str, int]:
    """QEMU's parameters for that speed. Pure."""
    found = {}
    if tuning.bandwidth_bps is not None:
        found["max-bandwidth"] = tuning.bandwidth_bps or _NO_LIMIT_BPS
    if tuning.downtime_ms is not None:
        found["downtime-limit"] = tuning.downtime_ms
    return found


def set_for(client: QmpClient, tuning: hv.Tuning, mode: str, *, mirror: bool, deadline_s: float) -> None:
    """Set what a migration needs, on either side. Raises `QmpCommandError` for capabilities that exclude each other."""
    available = migration_commands.query_migrate_capabilities(client, deadline_s=deadline_s)
    changed = states(available, tuning.caps or (), postcopy=mode == hv.MigrationMode.POSTCOPY, mirror=mirror)
    if changed:
        migration_commands.migrate_set_capabilities(client, changed, deadline_s=deadline_s)
    speed = parameters(tuning)
    if speed:
        migration_commands.migrate_set_parameters(client, speed, deadline_s=deadline_s)
