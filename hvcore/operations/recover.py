"""Finishing or undoing what an interrupted operation left. Runs first in every operation, under the lock.

A healthy running guest is never stopped here: an interrupted start that had succeeded is finished, an
interrupted stop of a guest that still runs is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hvcore.deadline import Deadline
from hvcore.errors import HvError, RecordError
from hvcore.host.processes.process import boot_id
from hvcore.model.record import Phase, Record
from hvcore.model.state import State
from hvcore.operations.context import Context
from hvcore.operations.release import gone

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # with pluggy and metadata: not for those who load no driver

__all__ = ["Recovered", "recover_all", "settle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What recovery did with one instance: ``finished``, ``undone``, ``taken back``, ``cleaned`` or ``failed``."""

    name: str
    what: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        return {"name": self.name, "what": self.what, "detail": self.detail}


def settle(context: Context, name: str, deadline: Deadline) -> Recovered | None:
    """Bring one instance to a settled state; None when there was nothing to do. The caller holds its lock.

    Raises `HvError` when something that it holds cannot be released.
    """
    try:
        record = context.store.load(name)
    except RecordError:
        return None  # only stop --force and people can deal with that
    if record is None:
        _forget_empty(context, name)
        return None
    if record.boot_id == boot_id() and record.phase is Phase.RUNNING:
        return None
    loaded = context.driver(record.driver)
    if record.boot_id != boot_id():
        return _undo(context, loaded, record, deadline, "cleaned", "the node was restarted")
    if record.phase is Phase.STARTING:
        return _settle_start(context, loaded, record, deadline)
    return _settle_stop(context, loaded, record, deadline)


def _forget_empty(context: Context, name: str) -> None:
    # A crash between making the directory and the first record, or between removing the record and the directory.
    if context.store.dir(name).is_dir():
        context.store.remove(name)


def _settle_start(context: Context, loaded: LoadedDriver, record: Record, deadline: Deadline) -> Recovered:
    job = context.job(record, deadline, loaded)
    if loaded.adopt(context.live(record), job):
        job.update(phase=Phase.RUNNING)
        return Recovered(name=record.name, what="finished", detail="its start had succeeded, it runs")
    return _undo(context, loaded, record, deadline, "undone", "its start was interrupted")


def _settle_stop(context: Context, loaded: LoadedDriver, record: Record, deadline: Deadline) -> Recovered:
    seen = loaded.observe(context.live(record))
    if seen.state in (State.RUNNING, State.PAUSED):
        context.job(record, deadline).update(phase=Phase.RUNNING)
        return Recovered(name=record.name, what="taken back", detail=f"its stop was interrupted, it is {seen.state}")
    return _undo(context, loaded, record, deadline, "finished", "its stop was interrupted after it had ended")


def _undo(
    context: Context, loaded: LoadedDriver, record: Record, deadline: Deadline, what: str, detail: str
) -> Recovered:
    outcome = gone(context, loaded, context.job(record, deadline, loaded))
    return Recovered(name=record.name, what=what, detail="; ".join((detail, *outcome.notes)))


def recover_all(context: Context, deadline_s: float) -> list[Recovered]:
    """Settle every instance of the node, one after the other; a failure of one is reported and keeps none from it."""
    found = []
    for name in sorted({*context.store.names(), *context.store.abandoned_locks()}):
        try:
            with context.store.lock(name, "recover"):
                result = settle(context, name, Deadline(deadline_s))
        except HvError as error:
            result = Recovered(name=name, what="failed", detail=str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a failure of one keeps no other from being recovered
            result = Recovered(name=name, what="failed", detail=f"raised {type(error).__name__}: {error}")
        if result is not None:
            found.append(result)
    return found
