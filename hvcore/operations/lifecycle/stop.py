"""Stopping an instance, and cleaning up after one that has ended."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import (
    DriverError,
    DriverLoadError,
    HookError,
    HvError,
    LeftoverError,
    NodeError,
    RecordError,
    UnknownDriverError,
)
from hvcore.host.hurry import HurriedDeadline, hurried_deadline, interruptible
from hvcore.host.launching.launch import reap
from hvcore.model.answers import Outcome
from hvcore.model.record import Phase, Record
from hvcore.model.state import ACTIVE, ENDED, Already, Op, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import Observed, observed, verdict_on
from hvcore.operations.lifecycle.take_over import TakingOver
from hvcore.operations.open_job import refuse_open
from hvcore.operations.recovery.recover import settle
from hvcore.operations.recovery.release import release_ended, release_without_driver, release_without_record
from hvcore.operations.saved_params import saved_params

__all__ = ["cleanup", "stop", "stop_locked"]

_FAULTS: Final = (DriverLoadError, UnknownDriverError, RecordError, DriverError, HookError)
"""The driver cannot be used: not installed, broken, or unable to read the record."""

_CUT_OFF: Final = ("quit", "kill")
"""The steps of a stop that end a guest without its consent."""


def stop(context: Context, name: str, *, force: bool, deadline: Deadline) -> Outcome:
    """Stop the instance and release what it holds. Changes nothing if it does not run or does not exist.

    Raises `BusyError`, `DeadlineError` when its process does not exit, and `LeftoverError`.
    """
    wait_s = deadline.left(at_most=context.busy_s)
    taking_over = TakingOver(context, name, force=force, patience_s=wait_s / 2)
    with context.store.lock(name, "stop", wait_s=wait_s, while_busy=taking_over):
        if force:
            outcome = taking_over.noted(stop_locked(context, name, force=True, deadline=deadline))
        else:
            refuse_open(context, name, Op.STOP)
            with hurried_deadline(context.store.dir(name), deadline) as hurried:
                outcome = stop_locked(context, name, force=False, deadline=hurried)
        context.store.kept(name).drop()
        return outcome


def stop_locked(context: Context, name: str, *, force: bool, deadline: Deadline) -> Outcome:
    """Like `stop`, for a caller that holds the instance's lock."""
    op = Op.KILL if force else Op.STOP
    try:
        return _stop(context, name, op, deadline)
    except Exception as error:
        if not _is_fault(error):
            raise
        if not force:
            error.add_note(f"{name}: hv stop --force stops it without its driver")
            raise
        why = _in_words(error)
    try:
        return _kill_without_driver(context, name, op, deadline, why)
    except Exception as error:
        if not _is_fault(error):
            raise
        return _outcome_of_kill(name, op, why, _in_words(error), *release_without_record(context, name))


def _is_fault(error: Exception) -> bool:
    """Whether the driver, a plugin or the contents of the record are at fault, and not the node or the instance."""
    cause = error.__cause__ if isinstance(error, LeftoverError) else error
    return isinstance(cause, _FAULTS) or not isinstance(error, HvError | OSError)


def _in_words(error: Exception) -> str:
    if isinstance(error, HvError):
        return str(error)
    return f"its record cannot be used, it raised {type(error).__name__}: {error}"


def _stop(context: Context, name: str, op: Op, deadline: Deadline) -> Outcome:
    force = op is Op.KILL
    try:
        recovered = settle(context, name, deadline, devices=False)
    except HvError as error:  # such as a half-started guest that does not answer: force kills it all the same
        if not force or _is_fault(error):
            raise
        recovered = None
    seen = observed(context, name)
    verdict = verdict_on(name, seen, op)
    if isinstance(verdict, Already):
        stopped_by = "gone" if recovered else None
        return Outcome(name=name, op=op, changed=recovered is not None, state=State.STOPPED, stopped_by=stopped_by)
    if seen.record is None:
        return _outcome_of_kill(name, op, *release_without_record(context, name))
    if _needs_driver(context, seen, force=force):
        return _stop_by_driver(context, seen.record, op, deadline, before=seen.state)
    stopped_by = "gone" if seen.state in ENDED else "kill"
    return _release(context, seen.record, _outcome_of(name, op, stopped_by, seen.state), deadline)


def _needs_driver(context: Context, seen: Observed, *, force: bool) -> bool:
    """Whether the driver must stop the instance before everything is released."""
    if seen.state is State.CRASHED:  # a guest that panicked can still have its process
        return seen.observation.pid is not None
    if seen.state is State.SHUTDOWN and seen.record is not None and not force:
        return context.driver(seen.record.driver).needs_stop(context.live(seen.record))
    return seen.state in ACTIVE


def cleanup(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Release what an ended instance still holds. Raises `StateError` while it runs."""
    with context.store.lock(name, "cleanup", wait_s=deadline.left(at_most=context.busy_s)):
        recovered = settle(context, name, deadline)
        refuse_open(context, name, Op.CLEANUP)
        seen = observed(context, name)
        verdict = verdict_on(name, seen, Op.CLEANUP)
        if isinstance(verdict, Already) or seen.record is None:
            return Outcome(name=name, op=Op.CLEANUP, changed=recovered is not None, state=State.STOPPED)
        outcome = _release(context, seen.record, _outcome_of(name, Op.CLEANUP, "gone", seen.state), deadline)
        context.store.kept(name).drop()
        return outcome


def _kill_without_driver(context: Context, name: str, op: Op, deadline: Deadline, why: str) -> Outcome:
    """When the driver cannot be used: kill the instance and release the resources of the core."""
    record = context.store.load(name)
    if record is None:
        return _outcome_of_kill(name, op, why, *release_without_record(context, name))
    done = release_without_driver(context, context.job(record, deadline))
    return _outcome_of_kill(name, op, why, "stopped without its driver, so no hook was called", *done)


def _outcome_of_kill(name: str, op: Op, *notes: str) -> Outcome:
    return _outcome_of(name, op, "kill", State.UNKNOWN, notes)


def _stop_by_driver(context: Context, record: Record, op: Op, deadline: Deadline, *, before: State) -> Outcome:
    loaded = context.driver(record.driver)
    job = context.job(record, deadline, loaded)
    force = op is Op.KILL
    notes: tuple[str, ...] = ()
    params = saved_params(loaded, record)
    if force:
        notes = loaded.hooks.notes("before_stop", instance=record.instance, params=params, force=True)
    else:
        list(loaded.hooks.each("before_stop", instance=record.instance, params=params, force=False))
    try:
        job.update(phase=Phase.STOPPING)
    except NodeError as error:  # a full run directory must not prevent a stop, which makes room
        notes = (*notes, str(error).removeprefix(f"{record.name}: "))
    try:
        with interruptible(deadline):
            stopped_by = loaded.stop(job.live, job, force=force)
    except BaseException:
        with suppress(HvError):  # the failure of the stop is the one to report
            if loaded.observe(job.live).state in ACTIVE:
                job.update(phase=record.up)
        raise
    if isinstance(deadline, HurriedDeadline) and deadline.hurried:
        notes = (*notes, "a stop by force ended the wait for the guest")
        stopped_by = "kill" if deadline.killed else stopped_by
    reap()
    outcome = _outcome_of(record.name, op, stopped_by, before, (*notes, *job.remarks))
    return _release(context, job.record, outcome, deadline)


def _release(context: Context, record: Record, outcome: Outcome, deadline: Deadline) -> Outcome:
    loaded = context.driver(record.driver)
    outcome = release_ended(context, loaded, context.job(record, deadline, loaded), outcome)
    return replace(outcome, notes=(*outcome.notes, *loaded.skipped))


def _outcome_of(name: str, op: Op, stopped_by: str, before: State, notes: Iterable[str] = ()) -> Outcome:
    """The outcome of a stop. ``before`` is the state before it: a guest that had crashed did not shut down."""
    clean: bool | None = stopped_by not in _CUT_OFF
    if before in ENDED:
        clean = before is State.SHUTDOWN
    elif stopped_by == "gone":  # it ended during the stop, and the reason is not known
        clean = None
    state = State.STOPPED
    return Outcome(name=name, op=op, changed=True, state=state, stopped_by=stopped_by, clean=clean, notes=tuple(notes))
