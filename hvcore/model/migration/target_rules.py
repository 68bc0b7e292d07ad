"""What the target of a migration accepts, as data. Pure."""

from __future__ import annotations

from typing import Final

from hvcore.model.migration.entry import NEVER_BEGAN, Act, Receipt, Request, TargetState
from hvcore.model.migration.rule import Rule
from hvcore.model.migration.situation import Condition

__all__ = ["TARGET_RULES"]

_on: Final = Rule.on

_NONE: Final = TargetState.NONE
_INCOMING: Final = TargetState.INCOMING
_PROMISED: Final = TargetState.PROMISED
_GOING: Final = TargetState.GOING
_RAN: Final = TargetState.RAN
_CLOSED: Final = TargetState.CLOSED
_DESTROYED: Final = TargetState.DESTROYED

_ALIVE: Final = Condition.ALIVE
_DEAD: Final = Condition.DEAD
_COLD: Final = Condition.COLD
_NOT_COLD: Final = Condition.NOT_COLD
_HAS_ALL: Final = Condition.HAS_ALL
_FREE: Final = (Condition.ABSENT, Condition.ONLY_JOB)
_PAUSED: Final = (_ALIVE, Condition.CPUS_STOPPED)
_STOPPED: Final = (Receipt.STOPPED,)
_ROLLED_BACK: Final = (Receipt.ROLLED_BACK,)


_ARRIVAL: Final = (
    _on(Request.PREPARE, _NONE, given=(_NOT_COLD, *_FREE), to=_INCOMING, act=Act.LAUNCH),
    _on(Request.PREPARE, _NONE, given=(_COLD, *_FREE), to=_INCOMING, act=Act.COPY),
    _on(Request.PREPARE, _INCOMING, _PROMISED, answer="prepared already"),
    _on(Request.COPIED, _INCOMING, given=(_COLD,), to=_INCOMING),
    _on(Request.PROMISE, _INCOMING, given=(Condition.POSTCOPY, _ALIVE), to=_PROMISED),
    _on(Request.PROMISE, _PROMISED, answer="promised already"),
    _on(
        Request.FINISH,
        *(_INCOMING, _PROMISED),
        given=(_NOT_COLD, _ALIVE, _HAS_ALL),
        receipts=_STOPPED,
        to=_GOING,
        act=Act.RUN,
    ),
    _on(Request.FINISH, _INCOMING, given=(_COLD, _HAS_ALL), receipts=_STOPPED, to=_GOING, act=Act.RUN),
    _on(Request.FINISH, _GOING, _RAN, _CLOSED, answer="finished already"),
    _on(Request.CLOSE, _RAN, receipts=(Receipt.GONE,), to=_CLOSED, answer="moved here"),
    _on(Request.CLOSE, _CLOSED, answer="closed already"),
)

# In `going`, what the program answers or its end decides. A program that has ended may have run, so it is not destroyed.
_LOOK: Final = (
    _on(Request.LOOK, _GOING, given=(_ALIVE, Condition.CPUS_RUN), to=_RAN, answer="runs here"),
    _on(Request.LOOK, _GOING, given=(*_PAUSED, Condition.ACT_OVER), to=_RAN, answer="is here"),
    _on(
        Request.LOOK,
        _GOING,
        given=(*_PAUSED, Condition.ACT_REFUSED, Condition.PRECOPY),
        to=_DESTROYED,
        act=Act.KILL,
        answer="could not run here",
    ),
    _on(Request.LOOK, _GOING, given=(_NOT_COLD, _DEAD), to=_RAN, answer="ended here; it may have run"),
    _on(Request.LOOK, _GOING, given=(_COLD, _DEAD, Condition.ACT_OVER), to=_RAN, answer="ended here"),
    _on(
        Request.LOOK,
        _GOING,
        given=(_COLD, _DEAD, Condition.ACT_REFUSED),
        to=_DESTROYED,
        act=Act.KILL,
        answer="could not be started here",
    ),
    _on(
        Request.LOOK,
        *(_INCOMING, _PROMISED),
        given=(_NOT_COLD, _DEAD),
        to=_DESTROYED,
        act=Act.KILL,
        answer="its program ended before the instance ran",
    ),
)

_END: Final = (
    _on(Request.CANCEL, _NONE, to=_DESTROYED, answer=NEVER_BEGAN),
    _on(Request.CANCEL, _INCOMING, to=_DESTROYED, act=Act.KILL, answer="cancelled"),
    _on(Request.CANCEL, _PROMISED, receipts=_ROLLED_BACK, to=_DESTROYED, act=Act.KILL, answer="cancelled"),
    _on(  # the source went on by an operator's word
        Request.CANCEL,
        _RAN,
        given=(_DEAD,),
        receipts=_ROLLED_BACK,
        to=_DESTROYED,
        act=Act.KILL,
        answer="the source was started again after this node was fenced",
    ),
    _on(Request.CANCEL, _DESTROYED, answer="cancelled already"),
    _on(Request.WORD_PEER_FENCED, _NONE, given=(Condition.FENCED,), to=_DESTROYED, answer=NEVER_BEGAN),
    _on(
        Request.WORD_PEER_FENCED,
        *(_INCOMING, _PROMISED),
        given=(Condition.FENCED,),
        to=_DESTROYED,
        act=Act.KILL,
        answer="fenced",
    ),
    # Not in `ran`: an operator may give his word on both nodes, one after the other, and then both could start it.
    _on(Request.WORD_PEER_FENCED, _DESTROYED, _CLOSED, answer="ended already"),
    _on(Request.AUTOSTART, _NONE, _CLOSED, given=(Condition.SETTLED,), answer="it may start here"),
)

TARGET_RULES: Final = (*_ARRIVAL, *_LOOK, *_END)
"""All that a target accepts. At most one rule fits."""
