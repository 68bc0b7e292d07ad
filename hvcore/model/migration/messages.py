"""What the caller of a migration asks one node, and what the node answers: plain JSON values, for ssh and host applications."""

from __future__ import annotations

from dataclasses import field
from typing import Any, Self

from hvcore.frozen import dataclass
from hvcore.model.codec import decode, encode
from hvcore.model.migration.entry import JournalEntry, Receipt, Request, Side
from hvcore.model.migration.transfer import Landing, LandingWish, Offer, Transfer, Tuning
from hvcore.model.state import State

__all__ = ["MigrationAnswer", "MigrationRequest", "MigrationSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationSettings:
    """How an instance is to move.

    ``mode`` is ``live``, ``paused``, ``postcopy`` or ``cold``; None is that of its parameters. ``storage`` is ``shared``, or
    ``mirror`` if the target has its own disks. The target listens at ``listen``, by default the address that ssh has reached, and
    at ``port``, by default that of its parameters. Without ``tls`` everybody on the way can read and change the instance.
    """

    mode: str | None = None
    storage: str = "shared"
    listen: str = ""
    port: int | None = None
    tls: bool = True
    tuning: Tuning = field(default_factory=Tuning)


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationRequest:
    """One request to one node, about the migration ``job`` of an instance. Any caller can send it, at any time, again.

    ``side`` is the part of the node. ``receipts`` are the proofs that the other node has given. The other fields are for
    single requests. `prepare` has ``offer`` and ``wish``, `start` has ``landing``, ``wish`` and ``launch``. Both have
    ``peer`` and ``peer_boot``, the name of the other node and the number of its boot, and ``wanted``: whether the instance is to
    be ``running`` or ``paused`` there. With ``boot`` an operator gives his word that the other node is fenced since that boot;
    ``accept_loss`` that its own copy of the disks may be lost.
    """

    request: Request
    side: Side
    name: str
    job: str
    receipts: tuple[Receipt, ...] = ()
    peer: str = ""
    peer_boot: int = 0
    launch: str = ""
    wanted: str = "running"
    wish: LandingWish | None = None
    offer: Offer | None = None
    landing: Landing | None = None
    boot: int = 0
    accept_loss: bool = False

    def to_json(self) -> dict[str, Any]:
        """The request as plain JSON types."""
        found: dict[str, Any] = encode(self)
        return found

    @classmethod
    def from_json(cls, data: object) -> Self:
        """The inverse of `to_json`. Raises `RecordError` for anything else."""
        return decode(cls, data, "request")


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationAnswer:
    """What a node says about an instance and its migration after a request. Without a job: about the instance alone.

    ``state`` is that of the instance on this node, ``launch`` names its start there. ``boot`` is the number of the node's boot,
    ``highest`` the number of the last migration that it has seen. ``receipts`` are what it states to the other node for good.
    ``refusal`` says why it has refused the request; ``final`` that it will always do so.
    """

    name: str
    state: State
    boot: int
    highest: int
    launch: str = ""
    entry: JournalEntry | None = None
    alive: bool = False
    transfer: Transfer = field(default_factory=Transfer)
    receipts: tuple[Receipt, ...] = ()
    offer: Offer | None = None
    landing: Landing | None = None
    refusal: str = ""
    final: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The answer as plain JSON types."""
        found: dict[str, Any] = encode(self)
        return found

    @classmethod
    def from_json(cls, data: object) -> Self:
        """The inverse of `to_json`. Raises `RecordError` for anything else."""
        return decode(cls, data, "answer")
