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
from hvcore.host.hurry import HurriedDeadline, hurried_deadline, hurry, interruptible
from hvcore.host.launching.launch import reap
from hvcore.model.answers import Outcome
from hvcore.model.record import Phase, Record
from hvcore.model.state import Already, Op, State
from hvcore.operations.context import Context
from hvcore.operations.observe import Observed, observed, verdict_on
from hvcore.operations.recover import settle
from hvcore.operations.release import end_found, release_ended, release_without_driver, release_without_record
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
    taking_over = _TakingOver(context, name, patience_s=wait_s / 2)
    while_busy = taking_over if force else _only_wait
    with context.store.lock(name, "stop", wait_s=wait_s, while_busy=while_busy):
        if force:
            outcome = taking_over.noted(stop_locked(context, name, force=True, deadline=deadline))
        else:
            with hurried_deadline(context.store.dir(name), deadline) as hurried:
                outcome = stop_locked(context, name, force=False, deadline=hurried)
        context.store.kept(name).drop()
        return outcome


def _only_wait() -> None: ...


class _TakingOver:
    """Called while another operation holds the lock: if that is a polite stop, it is hurried, and then its guest is killed.

    A driver that does not listen, or waits for something else than its guest, gets the second half of the time.
    """

    def __init__(self, context: Context, name: str, *, patience_s: float) -> None:
        self._context, self._name = context, name
        self._patience = Deadline(patience_s)
        self._hurried = self._killed = False

    def __call__(self) -> None:
        directory = self._context.store.dir(self._name)
        if not self._hurried:
            self._hurried = hurry(directory)
        elif not self._killed and self._patience.left() == 0.0:
            self._killed = hurry(directory, killed=True)
            if self._killed:
                with suppress(HvError):  # the stop that holds the lock reports what is left
                    end_found(self._context, self._name)

    def noted(self, outcome: Outcome) -> Outcome:
        """The outcome of the stop by force, which found everything done if the other one obeyed."""
        if not self._hurried:
            return outcome
        notes = (*outcome.notes, "a polite stop was in progress, and was asked not to wait any longer")
        clean = False if outcome.clean is None else outcome.clean
        return replace(outcome, changed=True, stopped_by=outcome.stopped_by or "kill", clean=clean, notes=notes)


def stop_locked(context: Context, name: str, *, force: bool, deadline: Deadline) -> Outcome:
    """As `stop`, for a caller that holds the instance's lock."""
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
        return _without_driver(context, name, op, deadline, why)
    except Exception as error:
        if not _is_fault(error):
            raise
        return _killed(name, op, why, _in_words(error), *release_without_record(context, name))


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
        recovered = settle(context, name, deadline)
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
        return _killed(name, op, *release_without_record(context, name))
    if _needs_driver(context, seen, force=force):
        return _end(context, seen.record, op, deadline, before=seen.state)
    stopped_by = "gone" if seen.state in (State.SHUTDOWN, State.CRASHED) else "kill"
    return _release(context, seen.record, _ended(name, op, stopped_by, seen.state), deadline)


def _needs_driver(context: Context, seen: Observed, *, force: bool) -> bool:
    """Whether the driver must stop the instance before everything is released."""
    if seen.state is State.CRASHED:  # a guest that panicked can still have its process
        return seen.observation.pid is not None
    if seen.state is State.SHUTDOWN and seen.record is not None and not force:
        return context.driver(seen.record.driver).owes_stop(context.live(seen.record))
    return seen.state in (State.RUNNING, State.PAUSED)


def cleanup(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Release what an ended instance still holds. Raises `StateError` while it runs."""
    with context.store.lock(name, "cleanup", wait_s=deadline.left(at_most=context.busy_s)):
        recovered = settle(context, name, deadline)
        seen = observed(context, name)
        verdict = verdict_on(name, seen, Op.CLEANUP)
        if isinstance(verdict, Already) or seen.record is None:
            return Outcome(name=name, op=Op.CLEANUP, changed=recovered is not None, state=State.STOPPED)
        outcome = _release(context, seen.record, _ended(name, Op.CLEANUP, "gone", seen.state), deadline)
        context.store.kept(name).drop()
        return outcome


def _without_driver(context: Context, name: str, op: Op, deadline: Deadline, why: str) -> Outcome:
    """When the driver cannot be used: kill the instance and release the resources of the core."""
    record = context.store.load(name)
    if record is None:
        return _killed(name, op, why, *release_without_record(context, name))
    done = release_without_driver(context, context.job(record, deadline))
    return _killed(name, op, why, "stopped without its driver, so no hook was called", *done)


def _killed(name: str, op: Op, *notes: str) -> Outcome:
    return _ended(name, op, "kill", State.UNKNOWN, notes)


def _end(context: Context, record: Record, op: Op, deadline: Deadline, *, before: State) -> Outcome:
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
            if loaded.observe(job.live).state in (State.RUNNING, State.PAUSED):
                job.update(phase=Phase.RUNNING)
        raise
    if isinstance(deadline, HurriedDeadline) and deadline.hurried:
        notes = (*notes, "a stop by force ended the wait for the guest")
        stopped_by = "kill" if deadline.killed else stopped_by
    reap()
    outcome = _ended(record.name, op, stopped_by, before, notes)
    return _release(context, job.record, outcome, deadline)


def _release(context: Context, record: Record, outcome: Outcome, deadline: Deadline) -> Outcome:
    loaded = context.driver(record.driver)
    outcome = release_ended(context, loaded, context.job(record, deadline, loaded), outcome)
    return replace(outcome, notes=(*outcome.notes, *loaded.skipped))


def _ended(name: str, op: Op, stopped_by: str, before: State, notes: Iterable[str] = ()) -> Outcome:
    """The outcome of a stop. ``before`` is the state before it: a guest that had crashed did not shut down."""
    clean: bool | None = stopped_by not in _CUT_OFF
    if before in (State.SHUTDOWN, State.CRASHED):
        clean = before is State.SHUTDOWN
    elif stopped_by == "gone":  # it ended during the stop, and nothing tells why
        clean = None
    state = State.STOPPED
    return Outcome(name=name, op=op, changed=True, state=state, stopped_by=stopped_by, clean=clean, notes=tuple(notes))
