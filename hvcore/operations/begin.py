"""How an operation on an instance begins: its lock, what an interrupted one left, the state table, the driver's ability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hvcore.deadline import Deadline
from hvcore.frozen import dataclass
from hvcore.model.record import Record
from hvcore.model.state import Already, Move, Op, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import existing
from hvcore.operations.recovery.recover import settle

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["Begun", "begun"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """An operation that is legal now: the record, the verdict of the state table, the driver and its method for it."""

    record: Record
    verdict: Move | Already
    loaded: LoadedDriver
    act: Callable[..., Any]

    @property
    def state(self) -> State:
        """The state that the operation leads to."""
        return self.verdict.to if isinstance(self.verdict, Move) else self.verdict.state


@contextmanager
def begun(context: Context, name: str, op: Op, deadline: Deadline) -> Iterator[Begun]:
    """The settled instance, under its lock for the block.

    Raises `BusyError`, `NotFoundError`, `StateError`, `UnsupportedError` for a driver without the ability, and what settling
    raises.
    """
    with context.store.lock(name, str(op), wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, name, deadline)
        record, verdict = existing(context, name, op)
        loaded = context.driver(record.driver)
        yield Begun(record=record, verdict=verdict, loaded=loaded, act=loaded.able(op))
