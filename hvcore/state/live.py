"""A started instance as its driver looks at it. Apart from `hvcore.state.job`, because a look needs none of what a job does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hvcore.host.environment import Host
from hvcore.model.record import Record

if TYPE_CHECKING:
    from hvcore.host.cgroups.group import Group

__all__ = ["Live"]

_CGROUP: Final = "cgroup"  # as `hvcore.resources.control_group` calls it, which a look does not import


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A started instance as its driver looks at it: the record and the directory with its files."""

    record: Record
    dir: Path
    host: Host

    @property
    def group(self) -> Group | None:
        """Its control group, when it has one: to freeze it, to ask for figures."""
        names = [entry.data["name"] for entry in self.record.ledger if entry.kind == _CGROUP]
        if not names or not self.host.cgroups.usable:
            return None
        from hvcore.host.cgroups.group import Group  # noqa: PLC0415 - 3.7 ms, for those that have one

        return Group(names[-1], self.host.cgroups)
