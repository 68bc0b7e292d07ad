"""One thing that a node accepts in a migration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from hvcore.frozen import dataclass
from hvcore.model.migration.entry import Act, Receipt, Request, Side, SourceState, TargetState
from hvcore.model.migration.situation import Condition

__all__ = ["Rule"]

_State = TypeVar("_State", SourceState, TargetState)
_SIDES: Final[Mapping[type, Side]] = {SourceState: Side.SOURCE, TargetState: Side.TARGET}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A request that is accepted in these states of the journal, under all these conditions, with all these receipts.

    ``to`` is the new state of the journal, which is written before the act; None: the journal stays, and the act comes
    first. ``answer`` is for the caller, and the reason in the journal of an entry that ends.
    """

    side: Side
    request: Request
    states: tuple[str, ...]
    given: tuple[Condition, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    to: str | None = None
    act: Act = Act.NONE
    answer: str = ""

    @classmethod
    def on(
        cls,
        request: Request,
        *states: _State,
        given: tuple[Condition, ...] = (),
        receipts: tuple[Receipt, ...] = (),
        to: _State | None = None,
        act: Act = Act.NONE,
        answer: str = "",
    ) -> Rule:
        """The rule of the side that has these states, of which there is at least one."""
        return cls(
            side=_SIDES[type(states[0])],
            request=request,
            states=states,
            given=given,
            receipts=receipts,
            to=to,
            act=act,
            answer=answer,
        )

    @property
    def changes(self) -> bool:
        """Whether the rule changes anything. Others only say that a request was carried out before."""
        return self.to is not None or self.act is not Act.NONE
