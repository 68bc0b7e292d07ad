"""The state of instances. Changes nothing: no lock, no recovery."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from hvcore.config import strict
from hvcore.errors import DriverLoadError, HvError, NotFoundError, RecordError, StateError
from hvcore.host.processes.process import alive, boot_id, figures
from hvcore.model.observation import Observation, fault_of
from hvcore.model.record import Phase, Record
from hvcore.model.state import ACTIVE, ENDED, Already, EndedBy, Move, Op, State, transition
from hvcore.operations.context import Context
from hvcore.operations.in_time import OverdueError, in_time

__all__ = [
    "Observed",
    "existing",
    "existing_as",
    "observed",
    "observed_all",
    "observer_of",
    "verdict_on",
]


class Observed(NamedTuple):
    """An instance as the node has it: its record, None without a readable one, and what is observed."""

    record: Record | None
    observation: Observation

    @property
    def state(self) -> State:
        """The state that the next operation starts from."""
        return self.observation.state


def observed(context: Context, name: str) -> Observed:
    """The instance as it is now. Never raises for one that is dead, damaged or absent."""
    return observed_all(context, (name,))[0]


def observed_all(context: Context, names: Sequence[str]) -> list[Observed]:
    """Several instances as they are now. A driver that fails, hangs or returns a bad value hides no other driver's instances."""
    seen = [_before_driver(context, name) for name in names]
    asked = [item for item in seen if isinstance(item, Record)]
    # A caller that restricts drivers, or wants their faults, needs the driver itself.
    lone = [] if strict() or "HVCORE_DRIVERS" in os.environ else [record for record in asked if record.observer]
    answers = _answers(context, {record.name: (record, partial(_observed_alone, context, record)) for record in lone})
    # Where the observer failed, the driver reports why.
    known = {name: found for name, found in answers.items() if not isinstance(found, BaseException)}
    drivers = {}
    for record in asked:
        if record.name not in known:
            try:
                observe = context.driver(record.driver).observe
            except Exception as error:  # noqa: BLE001 - shown with the instance
                known[record.name] = _unknown(record, error)
            else:
                drivers[record.name] = (record, partial(observe, context.live(record)))
    for name, answer in _answers(context, drivers).items():
        known[name] = _unknown(drivers[name][0], answer) if isinstance(answer, BaseException) else answer
    return _with_open_jobs(
        context,
        names,
        [
            item if isinstance(item, Observed) else Observed(item, _completed(context, item, known[item.name]))
            for item in seen
        ],
    )


def _with_open_jobs(context: Context, names: Sequence[str], seen: list[Observed]) -> list[Observed]:
    """The instances, each with a reason if a migration of it is open, or if its journal cannot be read."""
    if not context.has_journals:
        return seen
    from hvcore.operations.open_job import open_jobs  # noqa: PLC0415 - 3 ms, for nodes where an instance migrated

    jobs = open_jobs(context, names)
    return [
        item
        if name not in jobs or item.record is None
        else Observed(item.record, _because(item.observation, jobs[name]))
        for name, item in zip(names, seen, strict=True)
    ]


def _because(found: Observation, why: str) -> Observation:
    return replace(found, reason=why if found.reason is None else f"{found.reason}; {why}")


def _before_driver(context: Context, name: str) -> Observed | Record:
    """What is known of the instance without its driver; its record if the driver has to be asked."""
    try:
        record = _record(context, name)
        if record is None:
            without = _without_record(context, name)
            if without.state is State.UNKNOWN:  # unless a start has begun meanwhile, whose process was found
                record = _record(context, name)
            if record is None:
                return Observed(record=None, observation=without)
    except RecordError as error:
        return Observed(record=None, observation=Observation(state=State.UNKNOWN, reason=str(error)))
    if record.boot_id != boot_id():
        return Observed(
            record, Observation(state=State.CRASHED, reason="the node was restarted", ended_by=EndedBy.NODE)
        )
    if record.phase not in (Phase.RUNNING, Phase.CHANGING):
        return Observed(record, _half_done(context, record))
    return record


def _record(context: Context, name: str) -> Record | None:
    """The instance's record, or the one that its interrupted reboot keeps. Raises `RecordError`."""
    record = context.store.load(name)
    if record is None and not context.store.locked(name):  # else a reboot is at work, between its halves
        record = context.store.kept(name).read()
    return record


def _completed(context: Context, record: Record, found: Observation) -> Observation:
    """What was observed, with what the driver does not know of."""
    found = _unless_unseen(context, record, found)
    if record.change is None or found.state not in ACTIVE or context.store.locked(record.name):
        return found
    what = f"{record.change.op} of {record.change.device} was interrupted; hv recover finishes or undoes it"
    return _because(found, what)


def _unless_unseen(context: Context, record: Record, found: Observation) -> Observation:
    """What was observed, or unknown if the instance runs where its processes cannot be seen from here."""
    if found.state not in ENDED or found.pid is not None:
        return found
    from hvcore.host.processes.launched import is_held_unseen, life_locks  # noqa: PLC0415 - json, which most lists do not need

    if not any(map(is_held_unseen, life_locks(context.store.dir(record.name)))):
        return found
    reason = f"{record.name}: still runs, in a PID namespace that cannot be seen from here; run hv where it was started"
    return Observation(state=State.UNKNOWN, reason=reason)


def _without_record(context: Context, name: str) -> Observation:
    from hvcore.operations.inspection.unrecorded import remains  # noqa: PLC0415 - 3.7 ms (control groups), which a list does not need

    left = remains(context, name)
    return Observation(state=State.STOPPED if left is None else State.UNKNOWN, reason=left)


_Call = tuple[Record, Callable[[], Observation]]


def _answers(context: Context, calls: Mapping[str, _Call]) -> dict[str, Observation | BaseException]:
    """The observation of each, or the error that its call raised. One that takes too long is observed as unknown."""
    known: dict[str, Observation | BaseException] = {}
    due = {}
    for name, (record, call) in calls.items():
        thread = context.overdue.get((name, record.started_at))
        if thread is not None and thread.is_alive():  # do not wait again, and leave no second thread behind
            known[name] = _unknown(record, _late(context, OverdueError(thread)))
        else:
            due[name] = (record, call)
    answers = in_time([call for _, call in due.values()], context.observe_s)
    for (name, (record, _)), answer in zip(due.items(), answers, strict=True):
        if isinstance(answer, OverdueError):
            context.overdue[name, record.started_at] = answer.thread
            known[name] = _unknown(record, _late(context, answer))
        else:
            known[name] = answer
    return known


def _unknown(record: Record, error: BaseException) -> Observation:
    what = str(error)
    if not isinstance(error, HvError):
        what = f"driver {record.driver}: raised {type(error).__name__}: {error}; report this to its authors"
    return Observation(state=State.UNKNOWN, reason=what)


def _late(context: Context, overdue: OverdueError) -> DriverLoadError:
    from hvcore.plugins.importing import where_it_is  # noqa: PLC0415 - 90 ms, after a hang only

    place = where_it_is(overdue.thread)
    return DriverLoadError(
        f"its driver did not answer within {context.observe_s:g} s{place}; report this to its authors"
    )


def _observed_alone(context: Context, record: Record) -> Observation:
    """What the driver's observer function alone reports: importing a whole driver takes longer than everything else.

    Raises if the observer fails, as of another release of the driver: then the driver is loaded, and reports why.
    """
    found = _observer(record.observer)(context.live(record))
    if not isinstance(found, Observation) or fault_of(found) is not None:
        raise TypeError(record.observer)
    return found


def observer_of(driver: object) -> str:
    """``module:function`` of its ``observe`` when that is a function of a module, as a static method; else empty."""
    found = inspect.getattr_static(driver, "observe")
    function = found.__func__ if isinstance(found, staticmethod) else None
    if not inspect.isfunction(function):
        return ""
    home, name = sys.modules.get(function.__module__), function.__qualname__
    return f"{function.__module__}:{name}" if getattr(home, name, None) is function else ""


@functools.cache
def _observer(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _half_done(context: Context, record: Record) -> Observation:
    if record.phase is Phase.ENDED:
        reason = "its reboot has stopped it and did not start it again; hv reboot tries again"
        return Observation(state=State.CRASHED, reason=reason, ended_by=EndedBy.REBOOT)
    state = State.STOPPING if record.phase is Phase.STOPPING else State.STARTING
    process = record.process
    pid = process.pid if process is not None and alive(process) else None
    if context.store.locked(record.name):
        return Observation(state=state, pid=pid)
    if process is not None and pid is not None and figures(process) is None:
        reason = f"killed, but pid {pid} hangs in the kernel and may still write; hv stop tries again"
        return Observation(state=state, pid=pid, reason=reason)
    if record.phase is Phase.ARRIVING:
        return Observation(state=state, pid=pid, reason="it waits for its state")
    return Observation(state=state, pid=pid, reason="interrupted; hv recover finishes or undoes it")


def verdict_on(name: str, seen: Observed, op: Op) -> Move | Already:
    """What ``op`` does in the state that was seen. Raises `StateError`, with the reason for the state as a note."""
    try:
        return transition(name, seen.state, op)
    except StateError as error:
        if seen.observation.reason is not None:
            error.add_note(seen.observation.reason)
        raise


def existing(context: Context, name: str, op: Op) -> tuple[Record, Move | Already]:
    """The record of an instance that must exist, and what ``op`` does. Raises `NotFoundError`, `StateError`."""
    return existing_as(name, observed(context, name), op)


def existing_as(name: str, seen: Observed, op: Op) -> tuple[Record, Move | Already]:
    """Like `existing`, for a caller that has observed the instance."""
    if seen.state is State.STOPPED:
        raise NotFoundError(name)
    verdict = verdict_on(name, seen, op)
    if seen.record is None:
        raise NotFoundError(name)
    return seen.record, verdict
