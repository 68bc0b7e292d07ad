"""Giving back what is reserved on the node, by the resource that has it."""

from __future__ import annotations

from hvcore.host.reservations import Reservations
from hvcore.model.record import Entry
from hvcore.resources.owner import Owner

__all__ = ["give_back"]


def give_back(kind: str, entry: Entry, owner: Owner) -> None:
    """Release what the entry's resource has reserved; all of this kind when the entry is of a record without keys."""
    whose = f"{owner.name}/{entry.key}" if entry.key else owner.name
    for directory in (kind, f"{kind}-readers"):
        Reservations(owner.host.run_dir / "reservations" / directory).release(whose)
