"""How an operation on an instance begins: its lock, what an interrupted one left, the state table, the driver's ability."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hvcore.deadline import Deadline
from hvcore.errors import HvError, OperationError
from hvcore.frozen import dataclass
from hvcore.host.hurry import hurried_deadline
from hvcore.model.record import Record
from hvcore.model.state import ENDED, Already, Move, Op, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import existing, observed
from hvcore.operations.open_job import refuse_open
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
    deadline: Deadline
    """The one of the call; a stop by force ends it."""

    @property
    def state(self) -> State:
        """The state that the operation leads to."""
        return self.verdict.to if isinstance(self.verdict, Move) else self.verdict.state


@contextmanager
def begun(context: Context, name: str, op: Op, deadline: Deadline) -> Iterator[Begun]:
    """The settled instance, under its lock for the block.

    An error of the block becomes an `OperationError` with the reason, if the instance has ended meanwhile.

    Raises `BusyError`, also while a migration of the instance is open, `NotFoundError`, `StateError`, `UnsupportedError` for a
    driver without the ability, and what settling raises.
    """
    with context.store.lock(name, str(op), wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, name, deadline)
        refuse_open(context, name, op)
        record, verdict = existing(context, name, op)
        loaded = context.driver(record.driver)
        act = loaded.able(op)
        with hurried_deadline(context.store.dir(name), deadline) as hurried:
            try:
                yield Begun(record=record, verdict=verdict, loaded=loaded, act=act, deadline=hurried)
            except HvError as error:
                if hurried.hurried:
                    what = f"{name}: {op} was given up for a stop by force"
                    raise OperationError(f"{what}; repeat it if the instance goes on") from error
                _refuse_ended(context, name, op, error)
                raise


def _refuse_ended(context: Context, name: str, op: Op, error: HvError) -> None:
    """Raise an `OperationError` if the instance has ended meanwhile: that is the reason, and not what its program answered."""
    try:
        seen = observed(context, name)
    except HvError:
        return
    if seen.state in ENDED:
        why = seen.observation.reason or f"it is {seen.state}"
        what = f"{name}: the instance ended during {op}: {why}"
        raise OperationError(f"{what}; 'hv stop {name}' clears it up, 'hv start {name}' starts it again") from error
