"""What a node accepts and refuses in a migration. Pure.

These refusals alone keep an instance from running twice, and from continuing on one node after it has run on the other:
any caller is safe, also an old one that wakes up. A node writes the new state to its journal before it acts.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from hvcore.frozen import dataclass
from hvcore.model.migration.entry import Act, JournalEntry, Receipt, Request, Side, SourceState, TargetState
from hvcore.model.migration.rule import Rule
from hvcore.model.migration.situation import CONDITIONS, Condition, Facts, Situation, holds
from hvcore.model.migration.source_rules import SOURCE_RULES
from hvcore.model.migration.target_rules import TARGET_RULES

__all__ = ["FINAL", "GIVES", "PROVEN_DEAD", "RULES", "STATES", "Decision", "decide", "receipts_of", "settle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a node does about a request.

    ``to`` and ``act`` are those of a `Rule`: the node writes state ``to`` with ``act`` pending, does the act, and writes
    that it is done. ``answer`` becomes ``ended`` of an entry that ends. ``refusal`` is why it does nothing; it is ``final``
    if the same request can never be accepted for this job, so that the caller has to end the migration.
    """

    to: str | None = None
    act: Act = Act.NONE
    answer: str = ""
    refusal: str | None = None
    final: bool = False


_S: Final = SourceState
_T: Final = TargetState
_C: Final = Condition

RULES: Final[tuple[Rule, ...]] = (*TARGET_RULES, *SOURCE_RULES)
"""All that nodes accept. At most one row fits; without one the request is refused."""

FINAL: Final = frozenset({Request.PREPARE, Request.START})
"""Requests whose refusal ends the migration."""

_OPEN: Final = "the migration is open"
STATES: Final[dict[tuple[Side, str], str]] = {
    (Side.SOURCE, _S.NONE): "this node does not know the migration",
    (Side.SOURCE, _S.MIGRATING): f"{_OPEN}, the instance is being sent",
    (Side.SOURCE, _S.POSTCOPY_ALLOWED): f"{_OPEN}, the instance may have been switched to postcopy",
    (Side.SOURCE, _S.STOPPED): f"{_OPEN}, the instance may run on the target",
    (Side.SOURCE, _S.GONE): "the instance is not here, it moved to the target",
    (Side.SOURCE, _S.ROLLED_BACK): "the migration was rolled back",
    (Side.TARGET, _T.NONE): "this node does not know the migration",
    (Side.TARGET, _T.INCOMING): f"{_OPEN}, the instance is expected here",
    (Side.TARGET, _T.PROMISED): f"{_OPEN}, only the source can roll it back",
    (Side.TARGET, _T.GOING): f"{_OPEN}, too late: the instance may run here",
    (Side.TARGET, _T.RAN): f"{_OPEN}, too late: the instance runs here, or has run",
    (Side.TARGET, _T.CLOSED): "too late: the instance moved here",
    (Side.TARGET, _T.DESTROYED): "the instance is not here, the migration was cancelled",
}
"""Why a request is refused in this state."""


def decide(here: Situation, request: Request, receipts: Collection[Receipt] = ()) -> Decision:
    """What a node does about a request that carries these receipts of the other node."""
    rules = [rule for rule in RULES if rule.side is here.side and rule.request is request and here.state in rule.states]
    for rule in rules:
        if all(holds(one, here) for one in rule.given) and set(rule.receipts) <= set(receipts):
            return Decision(to=rule.to, act=rule.act, answer=rule.answer)
    if request is Request.LOOK:
        return Decision()
    state, lacking = STATES[here.side, here.state], _lacking(rules, here, receipts)
    why = state if lacking is None else lacking if here.entry is None else f"{state}; {lacking}"
    return Decision(refusal=why, final=request in FINAL)


_MODES: Final = frozenset({_C.PRECOPY, _C.POSTCOPY, _C.COLD, _C.NOT_COLD})


def _lacking(rules: list[Rule], here: Situation, receipts: Collection[Receipt]) -> str | None:
    """What the rule lacks that is made for this mode."""
    for_mode = [rule for rule in rules if all(holds(one, here) for one in rule.given if one in _MODES)]
    for rule in for_mode or rules:
        lacking = next((one for one in rule.given if not holds(one, here)), None)
        if lacking is not None:
            return CONDITIONS[lacking][1]
        missing = next((one for one in rule.receipts if one not in receipts), None)
        if missing is not None:
            return f"the other node has not said that the instance is {missing} there"
    return None


_WITH_THE_REQUEST: Final = frozenset({Act.LAUNCH, Act.SEND, Act.COPY})


def settle(entry: JournalEntry | None, facts: Facts) -> Act:
    """The act that the journal asks for and that was not done, as after a crash; else `Act.NONE`.

    The state of a program that has ended is lost. After a restart of the node a peer may have gone on by an operator's
    word, so the instance is not started. A launch and the begin of a transfer need values of their requests, so they are not
    done later: the migration fails. Where the instance has ended, `cancel-and-run` has nothing to do and is done.
    """
    act = Act.NONE if entry is None else entry.pending
    side = Side.SOURCE if entry is None else entry.side
    here = Situation(side=side, entry=entry, facts=facts)
    vain = (
        act in _WITH_THE_REQUEST
        or (act is Act.RUN and not facts.alive and (holds(_C.NOT_COLD, here) or here.rebooted))
        or (act is Act.SWITCH_POSTCOPY and not (facts.alive and holds(_C.UNDER_WAY, here)))
    )
    return Act.NONE if vain else act


GIVES: Final[dict[tuple[Side, str], Receipt]] = {
    (Side.SOURCE, _S.STOPPED): Receipt.STOPPED,
    (Side.SOURCE, _S.GONE): Receipt.GONE,
    (Side.SOURCE, _S.ROLLED_BACK): Receipt.ROLLED_BACK,
    (Side.TARGET, _T.PROMISED): Receipt.PROMISED,
    (Side.TARGET, _T.RAN): Receipt.RUNNING,
    (Side.TARGET, _T.CLOSED): Receipt.RUNNING,
    (Side.TARGET, _T.DESTROYED): Receipt.DESTROYED,
}
"""The receipt that each state gives."""

PROVEN_DEAD: Final = frozenset({Receipt.GONE, Receipt.DESTROYED})
"""Receipts that are given only when the program has ended."""


def receipts_of(entry: JournalEntry | None, facts: Facts) -> tuple[Receipt, ...]:
    """What the node can state for good by its journal. That the instance is dead only after the act has ended it."""
    given = None if entry is None else GIVES.get((entry.side, entry.state))
    if entry is None or given is None or (given in PROVEN_DEAD and entry.pending is not Act.NONE):
        return ()
    # While the migration is open, no operation starts an instance that has ended.
    ended = entry.state == TargetState.RAN and not facts.alive
    return (given, Receipt.ENDED) if ended else (given,)
