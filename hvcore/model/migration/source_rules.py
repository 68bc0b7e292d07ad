"""What the source of a migration accepts, as data. Pure."""

from __future__ import annotations

from typing import Final

from hvcore.model.migration.entry import NEVER_BEGAN, Act, Receipt, Request, SourceState
from hvcore.model.migration.rule import Rule
from hvcore.model.migration.situation import Condition

__all__ = ["SOURCE_RULES"]

_on: Final = Rule.on

_NONE: Final = SourceState.NONE
_MIGRATING: Final = SourceState.MIGRATING
_ALLOWED: Final = SourceState.POSTCOPY_ALLOWED
_STOPPED: Final = SourceState.STOPPED
_GONE: Final = SourceState.GONE
_ROLLED_BACK: Final = SourceState.ROLLED_BACK

_ALIVE: Final = Condition.ALIVE
_COLD: Final = Condition.COLD
_NOT_COLD: Final = Condition.NOT_COLD
_SETTLED: Final = Condition.SETTLED
_FENCED: Final = Condition.FENCED
_OVER: Final = (_ALIVE, Condition.COMPLETED, Condition.CPUS_STOPPED, Condition.MIRRORS_ENDED)
_DESTROYED: Final = (Receipt.DESTROYED,)


_DEPARTURE: Final = (
    _on(
        Request.START,
        _NONE,
        given=(_ALIVE, Condition.SAME_LAUNCH, Condition.ONLY_JOB),
        to=_MIGRATING,
        act=Act.SEND,
    ),
    _on(Request.START, _MIGRATING, _ALLOWED, _STOPPED, answer="started already"),
    _on(
        Request.ALLOW_POSTCOPY,
        _MIGRATING,
        given=(Condition.POSTCOPY, _ALIVE, _SETTLED, Condition.UNDER_WAY),
        receipts=(Receipt.PROMISED,),
        to=_ALLOWED,
        act=Act.SWITCH_POSTCOPY,
    ),
    _on(Request.ALLOW_POSTCOPY, _ALLOWED, _STOPPED, answer="allowed already"),
    _on(
        Request.CONFIRM,
        _STOPPED,
        given=(Condition.SENT_ALL,),
        receipts=(Receipt.RUNNING,),
        to=_GONE,
        act=Act.KILL,
        answer="moved to the target",
    ),
    _on(
        Request.CONFIRM,
        _STOPPED,
        given=(Condition.SWITCHED,),
        receipts=(Receipt.RUNNING, Receipt.ENDED),
        to=_GONE,
        act=Act.KILL,
        answer="moved to the target, where it ended before all of its memory had arrived",
    ),
    _on(Request.CONFIRM, _GONE, answer="confirmed already"),
)

# A program that has ended, or a fenced source, is never `stopped`: it may have gone on after the state had arrived.
_LOOK: Final = (
    _on(Request.LOOK, _MIGRATING, given=(_NOT_COLD, _ALIVE, _SETTLED, Condition.AT_SWITCHOVER), act=Act.CONTINUE),
    _on(Request.LOOK, _MIGRATING, given=(_NOT_COLD, _SETTLED, *_OVER), to=_STOPPED),
    _on(Request.LOOK, _MIGRATING, given=(_COLD, Condition.DEAD, _SETTLED), to=_STOPPED),
    _on(Request.LOOK, _ALLOWED, given=_OVER, to=_STOPPED),
    _on(Request.LOOK, _ALLOWED, given=(_ALIVE, Condition.SWITCHED, Condition.CPUS_STOPPED), to=_STOPPED),
)

_RETURN: Final = (
    _on(Request.ROLL_BACK, _NONE, to=_ROLLED_BACK, answer=NEVER_BEGAN),
    _on(
        Request.ROLL_BACK,
        _MIGRATING,
        given=(_NOT_COLD,),
        to=_ROLLED_BACK,
        act=Act.CANCEL_AND_RUN,
        answer="rolled back",
    ),
    _on(Request.ROLL_BACK, _MIGRATING, given=(_COLD,), to=_ROLLED_BACK, act=Act.START_AFRESH, answer="rolled back"),
    # The program acts first here: it may switch to postcopy before the cancellation reaches it.
    _on(Request.ROLL_BACK, _ALLOWED, given=(_ALIVE, Condition.UNDER_WAY), act=Act.CANCEL_TRANSFER),
    _on(
        Request.ROLL_BACK,
        _ALLOWED,
        given=(_ALIVE, Condition.BROKEN),
        to=_ROLLED_BACK,
        act=Act.CANCEL_AND_RUN,
        answer="rolled back",
    ),
    _on(
        Request.ROLL_BACK,
        _ALLOWED,
        given=(Condition.DEAD,),
        to=_ROLLED_BACK,
        answer="its program ended during the migration",
    ),
    _on(
        Request.ROLL_BACK,
        _STOPPED,
        given=(_NOT_COLD, Condition.SENT_ALL),
        receipts=_DESTROYED,
        to=_ROLLED_BACK,
        act=Act.CANCEL_AND_RUN,
        answer="rolled back",
    ),
    _on(
        Request.ROLL_BACK,
        _STOPPED,
        given=(_NOT_COLD, Condition.SWITCHED),
        receipts=_DESTROYED,
        to=_ROLLED_BACK,
        act=Act.KILL,
        answer="the target's program ended after the switch to postcopy",
    ),
    _on(
        Request.ROLL_BACK,
        _STOPPED,
        given=(_COLD,),
        receipts=_DESTROYED,
        to=_ROLLED_BACK,
        act=Act.START_AFRESH,
        answer="rolled back",
    ),
    _on(Request.ROLL_BACK, _ROLLED_BACK, answer="rolled back already"),
    _on(
        Request.WORD_PEER_FENCED,
        _MIGRATING,
        given=(_NOT_COLD, _FENCED),
        to=_ROLLED_BACK,
        act=Act.CANCEL_AND_RUN,
        answer="fenced",
    ),
    _on(
        Request.WORD_PEER_FENCED,
        _MIGRATING,
        given=(_COLD, _FENCED),
        to=_ROLLED_BACK,
        act=Act.START_AFRESH,
        answer="fenced",
    ),
    _on(  # the target may have run: its writes are on the disk, and the memory here is older
        Request.WORD_PEER_FENCED,
        _STOPPED,
        given=(_FENCED, Condition.LOSS_KNOWN),
        to=_ROLLED_BACK,
        act=Act.START_AFRESH,
        answer="fenced",
    ),
    _on(Request.WORD_PEER_FENCED, _ROLLED_BACK, _GONE, answer="ended already"),
    _on(Request.AUTOSTART, _NONE, _ROLLED_BACK, given=(_SETTLED,), answer="it may start here"),
)

SOURCE_RULES: Final = (*_DEPARTURE, *_LOOK, *_RETURN)
"""All that a source accepts. At most one rule fits."""
