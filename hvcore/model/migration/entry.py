"""What a node's journal says of one migration of an instance, and the words that nodes exchange about it. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.plain import plain_fields

__all__ = [
    "ENDED_STATES",
    "NEVER_BEGAN",
    "Act",
    "JournalEntry",
    "MigrationMode",
    "Receipt",
    "Request",
    "Side",
    "SourceState",
    "TargetState",
]


class Side(StrEnum):
    """The part of a node in a migration."""

    SOURCE = "source"
    TARGET = "target"


class SourceState(StrEnum):
    """How far a migration is, by the journal of the source.

    ``stopped``: the instance never runs here again, unless the target proves that it did not run there. ``gone``: it runs
    on the target. ``rolled-back``: it stays here.
    """

    NONE = "none"
    MIGRATING = "migrating"
    POSTCOPY_ALLOWED = "postcopy-allowed"
    STOPPED = "stopped"
    GONE = "gone"
    ROLLED_BACK = "rolled-back"


class TargetState(StrEnum):
    """How far a migration is, by the journal of the target.

    ``promised``: only the source may end it now, which postcopy needs. ``going``: the instance may run here, or may have
    run. ``ran``: it runs here, or has ended here. ``closed``: the source knows that. ``destroyed``: it never ran here.
    """

    NONE = "none"
    INCOMING = "incoming"
    PROMISED = "promised"
    GOING = "going"
    RAN = "ran"
    CLOSED = "closed"
    DESTROYED = "destroyed"


ENDED_STATES: Final = frozenset({"none", "gone", "rolled-back", "closed", "destroyed"})
"""The states in which nothing of a migration is open on a node."""


NEVER_BEGAN: Final = "ended before it began here"
"""Why a migration ended that a node heard of only at its end. It does not say where the instance is."""


class MigrationMode(StrEnum):
    """How an instance moves.

    ``live``: it runs until its memory has arrived. ``paused``: it is paused first. ``postcopy``: it may run on the target
    before all of its memory is there. ``cold``: it is stopped here and started there.
    """

    LIVE = "live"
    PAUSED = "paused"
    POSTCOPY = "postcopy"
    COLD = "cold"


class Act(StrEnum):
    """What a node does to the instance when its journal allows it. Each act can be repeated.

    ``launch``: start the program, which waits for the state. ``send``: begin the transfer. ``continue``: end the copies of
    disks and go on. ``run``: let the landed instance run. ``kill``: end it and release what it holds. ``cancel-and-run``:
    end the transfer, and let the instance run if it ran before. ``start-afresh``: end what is left, then start the
    instance. ``copy``: its storage has to be copied by the program that moves it.
    """

    NONE = "none"
    LAUNCH = "launch"
    SEND = "send"
    CONTINUE = "continue"
    RUN = "run"
    KILL = "kill"
    CANCEL_TRANSFER = "cancel-transfer"
    CANCEL_AND_RUN = "cancel-and-run"
    START_AFRESH = "start-afresh"
    SWITCH_POSTCOPY = "switch-postcopy"
    COPY = "copy"


class Request(StrEnum):
    """What a node can be asked to do for a migration. `look` changes only what the state of the program decides."""

    PREPARE = "prepare"
    START = "start"
    LOOK = "look"
    PROMISE = "promise"
    ALLOW_POSTCOPY = "allow-postcopy"
    COPIED = "copied"
    FINISH = "finish"
    CONFIRM = "confirm"
    CLOSE = "close"
    CANCEL = "cancel"
    ROLL_BACK = "roll-back"
    WORD_PEER_FENCED = "word-peer-fenced"
    AUTOSTART = "autostart"


class Receipt(StrEnum):
    """What a node states about itself for good. The other node accepts some requests only with such a receipt.

    ``running``: the instance runs on the target, or has run there. ``ended``: it has ended there.
    """

    PROMISED = "promised"
    STOPPED = "stopped"
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"
    DESTROYED = "destroyed"
    ROLLED_BACK = "rolled-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """One migration of an instance, as one of its two nodes knows it.

    ``state`` is a `SourceState` or a `TargetState`. ``pending`` is the act that this state asks for, until it is done: a
    node that crashes in between does it later. ``launch`` names the start of the instance that moves. ``own_boot`` and
    ``peer_boot`` count the boots of both nodes when the entry was made. ``wanted`` is ``running`` or ``paused``, ``storage``
    ``shared`` or ``mirror``. ``created`` are paths that were made for the migration. ``ended`` says why it ended.
    """

    job: str
    name: str
    driver: str
    side: Side
    state: str
    peer: str
    pending: Act = Act.NONE
    launch: str = ""
    own_boot: int = 0
    peer_boot: int = 0
    mode: MigrationMode = MigrationMode.LIVE
    wanted: str = "running"
    storage: str = "shared"
    created: tuple[str, ...] = ()
    ended: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the migration has not ended on this node."""
        return self.state not in ENDED_STATES or self.pending is not Act.NONE

    @property
    def began(self) -> bool:
        """Whether the node took part in the migration, so that its end says where the instance is."""
        return self.ended != NEVER_BEGAN

    def to_json(self) -> dict[str, Any]:
        """The entry as plain JSON types."""
        return {**plain_fields(self), "created": list(self.created)}
