"""What a kind of resource is: everything that this node does about one class of resources, in one place.

A kind is a class with up to seven methods, in the order in which a start meets them: verify, describe, placeholder,
entry, acquire, prove, release. Only `acquire` has to be there. `hvcore.resources.kinds` calls them.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any, ClassVar, Generic, TypeVar, cast

from hvcore.errors import Problem
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Resource
from hvcore.resources.held import Held
from hvcore.resources.owner import Owner, Site

__all__ = ["Requirement", "ResourceKind", "Turn"]

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

    ``name`` is the word in the ledger. ``runs`` says that what is acquired is a process: it may still write, so it is
    released before everything else, and what it uses stays reserved until it has gone. ``in_ledger`` says that the
    ledger knows of it before it is acquired, when `entry` has no more to say than its key. All are given in the
    class's header: ``class SeatKind(ResourceKind[Seat, None], name="seat", turn=Turn.FILE)``.
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
        asked = typing.get_args(next(iter(getattr(cls, "__orig_bases__", ())), None))
        if len(asked) > 1:
            cls._without_handle = asked[1] is type(None)
        if name is not None and turn is not None:
            cls.name, cls.turn, cls.resource = name, turn, asked[0]
            cls.runs, cls.in_ledger = runs, in_ledger

    def verify(self, resource: R, site: Site) -> Iterable[Problem]:
        """Why this node cannot provide it. Looks, and changes nothing."""
        return ()

    def describe(self, resource: R, site: Site) -> Iterable[Step]:
        """The steps of a plan. Looks, and changes nothing."""
        return ()

    def placeholder(self, resource: R, site: Site) -> H:
        """What stands in a plan for the handle: ``{fd:KEY}`` for a descriptor, None for a kind without a handle."""
        return cast("H", None if self._without_handle else f"{{fd:{resource.key}}}")

    def entry(self, resource: R, site: Site) -> Mapping[str, Any] | None:
        """What the ledger says before it is acquired; None when nothing of it outlives the operation."""
        return {} if self.in_ledger else None

    @abstractmethod
    def acquire(self, resource: R, held: Held) -> H:
        """Get it. The ledger knows, and the handles of what it needs are in ``held``."""

    def prove(self, resource: R, site: Site, owner: Owner) -> None:
        """Look after the launch whether it is as wanted; also for an interrupted start that is finished."""

    def release(self, entry: Entry, owner: Owner) -> None:
        """Take it back. Idempotent: that it is gone is fine. Raise `HvError` or OSError for what is left.

        An entry without a key is of a record before version 5, and means everything of this kind.
        """


class Requirement(ResourceKind[R, None]):
    """A kind that the node only has to have: it is verified and described, and nothing of it is held."""

    def acquire(self, resource: R, held: Held) -> None:
        """Nothing."""
