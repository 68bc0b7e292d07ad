"""What the program that moves an instance asks of its two nodes, as data. Pure.

It reads the source first, then the target, asks, and reads again. It keeps nothing: another program can take over at any
time. What it read may be old when it asks; the rules of the nodes make that safe. The table only brings the end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from hvcore.frozen import dataclass
from hvcore.model.migration.entry import JournalEntry, Receipt, Request, Side, SourceState, TargetState
from hvcore.model.migration.rules import receipts_of
from hvcore.model.migration.situation import Condition, Facts, Situation, holds

__all__ = [
    "SOURCE_CLASSES",
    "TABLE",
    "TARGET_CLASSES",
    "Class",
    "Kind",
    "Row",
    "SideView",
    "Step",
    "Wish",
    "class_of",
    "next_step",
    "row_of",
]


class Wish(StrEnum):
    """What the caller wants: to move the instance, to move it and switch to postcopy now, or to end the migration."""

    GO = "go"
    POSTCOPY = "postcopy"
    ABORT = "abort"


class Kind(StrEnum):
    """What to do next.

    ``ask``: the requests of the step, in their order. ``wait``: read both nodes again after a moment. ``copy``: copy the
    storage to the target, then ask the target for `copied`. ``moved``, ``stayed``: the migration has ended, the instance is
    on the target, or the source has it. ``tell``: read both again; if it is so again, an operator has to find out why.
    """

    ASK = "ask"
    WAIT = "wait"
    COPY = "copy"
    MOVED = "moved"
    STAYED = "stayed"
    TELL = "tell"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideView:
    """What a node answered: its entry for this job, its boot, and what it sees. ``reachable`` is False without an answer."""

    entry: JournalEntry | None = None
    boot: int = 0
    facts: Facts = Facts()
    reachable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """A row or column of the table: the states of the journal, and conditions. The first that fits counts."""

    name: str
    states: tuple[str, ...]
    given: tuple[Condition, ...] = ()
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What to do where the source is in one of these classes and the target in one of those."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    wishes: tuple[Wish, ...]
    kind: Kind
    asks: tuple[tuple[Side, Request], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next. Each request carries ``receipts``, which the other node gave. ``why`` is for people."""

    kind: Kind
    asks: tuple[tuple[Side, Request], ...] = ()
    receipts: tuple[Receipt, ...] = ()
    why: str = ""


_S: Final = SourceState
_T: Final = TargetState
_C: Final = Condition


def _source_classes() -> tuple[Class, ...]:
    sent = (_C.NOT_COLD, _C.SETTLED, _C.ALIVE)
    over = (_C.COMPLETED, _C.CPUS_STOPPED, _C.MIRRORS_ENDED)
    allowed = (_S.POSTCOPY_ALLOWED,)
    return (
        Class(name="ready", states=(_S.NONE,), given=(_C.ALIVE,), help="knows nothing of it; the instance is there"),
        Class(name="nothing", states=(_S.NONE,), help="knows nothing of it; the instance has ended"),
        Class(name="completed", states=(_S.MIGRATING,), given=(*sent, *over), help="all was sent"),
        Class(
            name="completed",
            states=(_S.MIGRATING,),
            given=(_C.COLD, _C.SETTLED, _C.DEAD),
            help="it was stopped for a cold migration",
        ),
        Class(name="sending", states=(_S.MIGRATING,), given=(*sent, _C.UNDER_WAY), help="it is being sent"),
        Class(name="failed", states=(_S.MIGRATING,), help="the transfer failed, or the instance ended"),
        Class(name="switched", states=allowed, given=(_C.ALIVE, *over), help="all was sent"),
        Class(
            name="switched",
            states=allowed,
            given=(_C.ALIVE, _C.SWITCHED, _C.CPUS_STOPPED),
            help="it was switched to postcopy",
        ),
        Class(name="allowed", states=allowed, given=(_C.ALIVE, _C.UNDER_WAY), help="it may be switched to postcopy"),
        Class(name="allowed-failed", states=allowed, help="the same, and the transfer failed or the instance ended"),
        Class(
            name="stopped-sending",
            states=(_S.STOPPED,),
            given=(_C.POSTCOPY, _C.ALIVE, _C.SWITCHED),
            help="stopped; memory is still sent on demand",
        ),
        Class(name="stopped", states=(_S.STOPPED,), help="stopped for good"),
        Class(name="gone", states=(_S.GONE,), help="gave the instance away"),
        Class(name="rolled-back", states=(_S.ROLLED_BACK,), help="keeps the instance"),
    )


def _target_classes() -> tuple[Class, ...]:
    return (
        Class(name="nothing", states=(_T.NONE,), help="knows nothing of it"),
        Class(name="has-all", states=(_T.INCOMING,), given=(_C.HAS_ALL,), help="everything has arrived"),
        Class(name="to-copy", states=(_T.INCOMING,), given=(_C.COLD,), help="waits for a copy of the storage"),
        Class(name="waiting", states=(_T.INCOMING,), help="waits for the instance"),
        Class(name="promised-all", states=(_T.PROMISED,), given=(_C.HAS_ALL,), help="promised; can run"),
        Class(name="promised", states=(_T.PROMISED,), help="promised not to cancel"),
        Class(name="going", states=(_T.GOING,), help="may run there"),
        Class(name="ran", states=(_T.RAN,), given=(_C.ALIVE,), help="runs there"),
        Class(name="ended", states=(_T.RAN,), help="ran there, and has ended"),
        Class(name="closed", states=(_T.CLOSED,), help="has the instance for good"),
        Class(name="destroyed", states=(_T.DESTROYED,), help="never ran there"),
    )


SOURCE_CLASSES: Final = _source_classes()
TARGET_CLASSES: Final = _target_classes()

_ANY: Final = tuple(Wish)
_FORWARD: Final = (Wish.GO, Wish.POSTCOPY)
_ABORT: Final = (Wish.ABORT,)

_PREPARE: Final = ((Side.TARGET, Request.PREPARE),)
_START: Final = ((Side.SOURCE, Request.START),)
_LOOK_S: Final = ((Side.SOURCE, Request.LOOK),)
_LOOK_T: Final = ((Side.TARGET, Request.LOOK),)
_PROMISE: Final = ((Side.TARGET, Request.PROMISE),)
_ALLOW: Final = ((Side.SOURCE, Request.ALLOW_POSTCOPY),)
_FINISH: Final = ((Side.TARGET, Request.FINISH),)
_CONFIRM: Final = ((Side.SOURCE, Request.CONFIRM),)
_CLOSE: Final = ((Side.TARGET, Request.CLOSE),)
_CANCEL: Final = ((Side.TARGET, Request.CANCEL),)
_BACK: Final = ((Side.SOURCE, Request.ROLL_BACK),)
_UNDO: Final = (*_CANCEL, *_BACK)  # the target first: it holds the locks of the disks

_WAITING: Final = ("waiting", "to-copy")
_UNPROMISED: Final = ("nothing", *_WAITING, "has-all")
_PROMISED: Final = ("promised", "promised-all")
_RUNS: Final = ("going", "ran", "ended", "closed")


def _ask(source: str, target: str, wishes: tuple[Wish, ...], asks: tuple[tuple[Side, Request], ...]) -> Row:
    return Row(source=tuple(source.split()), target=tuple(target.split()), wishes=wishes, kind=Kind.ASK, asks=asks)


def _do(source: str, target: str, wishes: tuple[Wish, ...], kind: Kind) -> Row:
    return Row(source=tuple(source.split()), target=tuple(target.split()), wishes=wishes, kind=kind)


TABLE: Final[tuple[Row, ...]] = (
    _ask("ready", "nothing", _FORWARD, _PREPARE),
    _ask("ready", "waiting to-copy", _FORWARD, _START),
    _ask("ready", "has-all", _FORWARD, _CANCEL),
    _ask("ready", "nothing waiting to-copy has-all", _ABORT, _UNDO),
    _ask("nothing", "nothing waiting to-copy has-all", _ANY, _UNDO),
    _ask("ready nothing", "promised promised-all destroyed", _ANY, _BACK),
    _do("ready nothing", "going ran ended closed", _ANY, Kind.TELL),
    _do("sending", "waiting to-copy has-all", (Wish.GO,), Kind.WAIT),
    _ask("sending", "waiting", (Wish.POSTCOPY,), _PROMISE),
    _do("sending", "to-copy has-all promised-all", (Wish.POSTCOPY,), Kind.WAIT),
    _ask("sending", "promised", (Wish.POSTCOPY,), _ALLOW),
    _do("sending", "promised promised-all", (Wish.GO,), Kind.WAIT),
    _ask("sending", "waiting to-copy has-all", _ABORT, _UNDO),
    _ask("sending", "nothing", _ANY, _UNDO),
    _ask("sending", "promised promised-all", _ABORT, _BACK),
    _ask("completed", "nothing waiting to-copy has-all promised promised-all destroyed", _ANY, _LOOK_S),
    _ask("failed", "nothing waiting to-copy has-all", _ANY, _UNDO),
    _ask("failed", "promised promised-all", _ANY, _BACK),
    _ask("sending failed", "destroyed", _ANY, _BACK),
    _do("sending completed failed", "going ran ended closed", _ANY, Kind.TELL),
    _do("allowed", "promised promised-all", _FORWARD, Kind.WAIT),
    _ask("allowed", "promised promised-all", _ABORT, _BACK),
    _ask("allowed-failed", "promised promised-all", _ANY, _BACK),
    _ask("allowed allowed-failed", "destroyed", _ANY, _BACK),
    _ask("switched", "promised promised-all destroyed", _ANY, _LOOK_S),
    _do("allowed allowed-failed switched", "nothing waiting to-copy has-all going ran ended closed", _ANY, Kind.TELL),
    _ask("stopped", "nothing waiting", _ANY, _CANCEL),
    _do("stopped", "to-copy", _FORWARD, Kind.COPY),
    _ask("stopped", "has-all", _FORWARD, _FINISH),
    _ask("stopped", "to-copy has-all", _ABORT, _CANCEL),
    _do("stopped stopped-sending", "promised", _ANY, Kind.WAIT),
    _ask("stopped stopped-sending", "promised-all", _ANY, _FINISH),
    _ask("stopped stopped-sending", "going", _ANY, _LOOK_T),
    _ask("stopped", "ran ended closed", _ANY, _CONFIRM),
    _do("stopped-sending", "ran", _ANY, Kind.WAIT),
    _ask("stopped-sending", "ended", _ANY, _CONFIRM),
    _ask("stopped stopped-sending", "destroyed", _ANY, _BACK),
    _do("stopped-sending", "nothing waiting to-copy has-all closed", _ANY, Kind.TELL),
    _ask("gone", "ran ended", _ANY, _CLOSE),
    _do("gone", "closed", _ANY, Kind.MOVED),
    _do("gone", "nothing waiting to-copy has-all promised promised-all going destroyed", _ANY, Kind.TELL),
    _ask("rolled-back", "nothing waiting to-copy has-all promised promised-all", _ANY, _CANCEL),
    _ask("rolled-back", "going", _ANY, _LOOK_T),
    _ask("rolled-back", "ended", _ANY, _CANCEL),  # an operator's word: the target was fenced
    _do("rolled-back", "ran closed", _ANY, Kind.TELL),
    _do("rolled-back", "destroyed", _ANY, Kind.STAYED),
)
"""One row for each pair of classes and each wish."""


def class_of(side: Side, view: SideView) -> Class:
    """The class of what a node answered."""
    here = Situation(side=side, entry=view.entry, facts=view.facts)
    classes = SOURCE_CLASSES if side is Side.SOURCE else TARGET_CLASSES
    return next(one for one in classes if here.state in one.states and all(holds(word, here) for word in one.given))


def row_of(source: str, target: str, wish: Wish) -> Row:
    """The row for these classes."""
    return next(row for row in TABLE if source in row.source and target in row.target and wish in row.wishes)


def next_step(source: SideView, target: SideView, *, wish: Wish) -> Step:
    """What to do next, by what both nodes answered last.

    The program that takes a migration over, or that was refused for good, gives the wish `abort` where the source knows
    nothing of the migration.
    """
    lost = [side for side, view in ((Side.SOURCE, source), (Side.TARGET, target)) if not view.reachable]
    if lost:
        return Step(kind=Kind.WAIT, why=f"the {' and the '.join(lost)} cannot be reached")
    here, there = class_of(Side.SOURCE, source), class_of(Side.TARGET, target)
    row = row_of(here.name, there.name, wish)
    given = (*receipts_of(source.entry, source.facts), *receipts_of(target.entry, target.facts))
    return Step(kind=row.kind, asks=row.asks, receipts=given, why=f"source: {here.help}; target: {there.help}")
