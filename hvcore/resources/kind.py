"""The base class of resource kinds: everything that this node does about one class of resources.

Its methods are in the order of an instance's life: verify, describe and placeholder before a start, entry, acquire and
prove during a start, release at the end. Only `acquire` is required. `hvcore.resources.kinds` calls them.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, Generic, TypeVar, cast

from hvcore.errors import Problem
from hvcore.host.reservations import Reservations
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Resource
from hvcore.resources.held import Held
from hvcore.resources.owner import Owner, Site

__all__ = ["Requirement", "ResourceKind", "Turn", "give_back"]

R = TypeVar("R", bound=Resource[Any])
H = TypeVar("H")


class Turn(IntEnum):
    """When a kind is acquired. Within a turn resources keep the order in which the driver lists them."""

    WHO = 1
    FILE = 2
    NETWORK = 3
    SOCKET = 4
    PROGRAM = 5


class ResourceKind(ABC, Generic[R, H]):
    """Base of all kinds. ``R`` is the class of resources, ``H`` the type of their handles.

    ``name`` is the word in the ledger. ``runs`` marks a process: it may still write, so it is released first, and what
    it uses stays reserved until it has exited. ``in_ledger`` makes a ledger entry with only the key. All are given in the
    header of the class: ``class SeatKind(ResourceKind[Seat, None], name="seat", turn=Turn.FILE)``.
    """

    name: ClassVar[str]
    resource: ClassVar[type[Resource[Any]]]
    turn: ClassVar[Turn]
    runs: ClassVar[bool] = False
    in_ledger: ClassVar[bool] = False
    _without_handle: ClassVar[bool] = False

    def __init_subclass__(
        cls, *, name: str | None = None, turn: Turn | None = None, runs: bool = False, in_ledger: bool = False
    ) -> None:
        super().__init_subclass__()
        types = typing.get_args(next(iter(getattr(cls, "__orig_bases__", ())), None))
        if len(types) > 1:
            cls._without_handle = types[1] is type(None)
        if name is not None and turn is not None:
            cls.name, cls.turn, cls.resource = name, turn, types[0]
            cls.runs, cls.in_ledger = runs, in_ledger

    def verify(self, resource: R, site: Site) -> Iterable[Problem]:
        """Why this node cannot provide the resource. Changes nothing."""
        return ()

    def describe(self, resource: R, site: Site) -> Iterable[Step]:
        """The steps of a plan. Changes nothing."""
        return ()

    def placeholder(self, resource: R, site: Site) -> H:
        """The handle as a plan shows it: ``{fd:KEY}`` for a descriptor, None for a kind without a handle."""
        return cast("H", None if self._without_handle else f"{{fd:{resource.key}}}")

    def entry(self, resource: R, site: Site) -> Mapping[str, Any] | None:
        """The ledger entry, written before the resource is acquired; None when nothing of it outlives the operation."""
        return {} if self.in_ledger else None

    @abstractmethod
    def acquire(self, resource: R, held: Held) -> H:
        """Get the resource. Its ledger entry is written, and the handles of what it needs are in ``held``."""

    def prove(self, resource: R, site: Site, owner: Owner) -> None:
        """Check after the launch that the resource is as wanted; also when recovery finishes an interrupted start."""

    def release(self, entry: Entry, owner: Owner) -> None:
        """Take the resource back. Idempotent. Raises `HvError` or OSError for what is left.

        An entry without a key comes from a record before version 5, and means everything of this kind.
        """


class Requirement(ResourceKind[R, None]):
    """A kind that only has to be available on the node: it is verified and described, and nothing is held."""

    def acquire(self, resource: R, held: Held) -> None:
        """Acquire nothing."""


def give_back(kind: str, entry: Entry, owner: Owner) -> None:
    """Release the reservations of the entry's resource; all of this kind if the entry has no key."""
    whose = f"{owner.name}/{entry.key}" if entry.key else owner.name
    for directory in (kind, f"{kind}-readers"):
        Reservations(owner.host.run_dir / "reservations" / directory).release(whose)
