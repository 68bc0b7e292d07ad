"""A seat of a licence, and its kind: check, show, acquire, release."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import hvcore.plugin as hv

__all__ = ["Seat", "SeatKind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat(hv.Resource[str]):
    """One of the ``seats`` of a pool. The handle is its number as text."""

    pool: str
    seats: int


class SeatKind(hv.ResourceKind[Seat, str]):
    """A taken seat is a symbolic link in the pool. Its name is the seat's number and its target names the holder."""

    name: ClassVar[str] = "licence-seat"
    resource: ClassVar[type[Seat]] = Seat
    turn: ClassVar[hv.Turn] = hv.Turn.FILE

    def verify(self, resource: Seat, site: hv.Site) -> Iterator[hv.Problem]:
        """A seat has to be free. This takes none, so another start may still be faster."""
        with suppress(OSError):  # the check of the parameter reports a directory that cannot be used
            others = set(_taken(resource.pool).values()) - {_holder(site.dir)}
            if len(others) >= resource.seats:
                what = f"has no free seat, all {resource.seats} are taken by {', '.join(sorted(others))}"
                yield hv.Problem(path=resource.where, what=what, got=repr(resource.pool), todo="stop one of these")

    def describe(self, resource: Seat, site: hv.Site) -> Iterator[hv.Step]:
        """The line of `hv plan`."""
        yield hv.Step(kind="licence", what=f"take one of {resource.seats} seats in {resource.pool}")

    def placeholder(self, resource: Seat, site: hv.Site) -> str:
        """The text that a plan shows in place of the number."""
        return "{seat}"

    def entry(self, resource: Seat, site: hv.Site) -> Mapping[str, Any]:
        """The data that `release` needs. It is on disk before `acquire` is called."""
        return {"pool": resource.pool}

    def acquire(self, resource: Seat, held: hv.Held) -> str:
        """Take the first free seat. If two nodes create the same link, the file system refuses one of them."""
        for number in map(str, range(1, resource.seats + 1)):
            with suppress(FileExistsError):
                Path(resource.pool, number).symlink_to(_holder(held.owner.dir))
                return number
        raise hv.OperationError(f"{held.owner.name}: {resource.pool!r} has no free seat; stop an instance that has one")

    def release(self, entry: hv.Entry, owner: hv.Owner) -> None:
        """Remove the link, if there is one: a start may have been killed before, and a release may be the second."""
        with suppress(FileNotFoundError):  # the pool itself does not exist any more
            for number, holder in _taken(entry.data["pool"]).items():
                if holder == _holder(owner.dir):
                    Path(entry.data["pool"], number).unlink()


def _taken(pool: str) -> dict[str, str]:
    """The holder of each taken seat."""
    found = {}
    for number in os.listdir(pool):
        with suppress(OSError):  # released meanwhile, or not a link
            found[number] = os.readlink(Path(pool, number))
    return found


def _holder(directory: Path) -> str:
    """The name of a holder: on one node no two instances have the same directory."""
    return f"{os.uname().nodename}:{directory}"
