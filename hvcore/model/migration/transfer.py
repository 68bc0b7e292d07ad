"""What drivers say about an instance on its way to another node: what is offered, where it lands, how far it is. Pure."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from typing import Any, Self

from hvcore.frozen import dataclass
from hvcore.model.codec import decode, encode
from hvcore.model.instance import Instance

__all__ = ["Landing", "LandingWish", "Offer", "OfferedDisk", "Transfer", "TransferState", "Tuning"]


class TransferState(StrEnum):
    """How far the state of an instance is on its way, as one of the two programs sees it.

    ``none``: no transfer was begun. ``waiting``: it waits for the other side. ``pre-switchover``: everything but the last of
    the memory is over, and the source waits for `Migrates.continue_transfer`. ``device``: the last of it is on the way.
    """

    NONE = "none"
    WAITING = "waiting"
    SETUP = "setup"
    ACTIVE = "active"
    PRE_SWITCHOVER = "pre-switchover"
    DEVICE = "device"
    POSTCOPY_ACTIVE = "postcopy-active"
    POSTCOPY_PAUSED = "postcopy-paused"
    POSTCOPY_RECOVER = "postcopy-recover"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """A value that travels between nodes as JSON."""

    def to_json(self) -> dict[str, Any]:
        """All fields as plain JSON, with the class in ``kind``."""
        found: dict[str, Any] = encode(self)
        return found

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """The inverse of `to_json`. Raises `RecordError` for anything else."""
        return decode(cls, body, cls.__name__.lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(_Message):
    """How far a transfer is. ``cpus_run`` says whether the instance runs on this side.

    Rates are bytes per second. ``error`` is the reason of a failure, in the words of the program. ``mirrors_ended`` says that
    each copy of a disk has ended without an error, or that no disk is copied; ``mirror_error`` is the error of one that did not.
    """

    state: TransferState = TransferState.NONE
    cpus_run: bool = False
    transferred_bytes: int = 0
    remaining_bytes: int = 0
    total_bytes: int = 0
    rate_bps: int = 0
    dirty_bps: int = 0
    expected_downtime_ms: int | None = None
    downtime_ms: int | None = None
    total_ms: int | None = None
    error: str | None = None
    mirrors_ended: bool = True
    mirror_error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning(_Message):
    """How fast a transfer may be. None keeps what is set.

    ``bandwidth_bps`` is bytes per second, 0 for no limit; ``downtime_ms`` how long the instance may pause at the end. ``caps``
    are abilities of the driver's program, which both sides switch on before the transfer.
    """

    bandwidth_bps: int | None = None
    downtime_ms: int | None = None
    caps: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedDisk:
    """One disk of an instance that is offered. ``identity`` is the same text on two nodes only for the same disk, if known."""

    name: str
    path: str
    format: str
    size_bytes: int
    identity: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(_Message):
    """What the source says of an instance that may move.

    ``program`` is the driver's program with its version, ``abi`` the JSON of `hvcore.Abi`, ``spec`` the encoded spec. The
    core fills in ``params``, the parameters without secrets, and ``withheld``, the names of those secrets. ``blockers`` are
    the reasons why it cannot move now, ``live_blockers`` those why it cannot run while it is sent. ``mode``, ``port`` and
    ``tuning`` follow from its parameters. The target trusts only a source with this ``certificate`` (PEM).
    """

    driver: str
    instance: Instance
    spec: dict[str, Any]
    program: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    abi: dict[str, Any] = field(default_factory=dict)
    disks: tuple[OfferedDisk, ...] = ()
    blockers: tuple[str, ...] = ()
    live_blockers: tuple[str, ...] = ()
    mode: str = "live"
    port: int = 0
    tuning: Tuning = Tuning()
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingWish(_Message):
    """How an instance is to arrive.

    ``mode`` and ``storage`` are the words of `JournalEntry`. The target listens at ``host``, one of its addresses; empty for
    all. ``port`` None is that of the offer, 0 any free one. Without ``tls`` everybody on the way can read and change the
    instance.
    """

    job: str
    mode: str = "live"
    storage: str = "shared"
    host: str = ""
    port: int | None = None
    tls: bool = True
    tuning: Tuning = Tuning()


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing(_Message):
    """Where the target waits for an instance.

    The source connects to ``port`` of ``host``; where that is empty, of the address by which it knows the node. It trusts only
    a target with this ``certificate``; empty: the stream is plain. ``ticket`` says which landing a connection is for.
    ``disks`` are the names of the disks that the source copies.
    """

    job: str
    host: str
    port: int
    certificate: str = ""
    ticket: str = ""
    disks: tuple[str, ...] = ()
