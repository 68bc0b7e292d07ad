"""Freezing a running instance and letting it go on."""

from __future__ import annotations

from hvcore.deadline import Deadline
from hvcore.driver import Pausable
from hvcore.errors import NotFoundError, UnsupportedError
from hvcore.model.info import Outcome
from hvcore.model.state import Already, Op, State
from hvcore.operations.context import LOCK_WAIT_S, Context
from hvcore.operations.look import judged, look
from hvcore.operations.recover import settle

__all__ = ["pause", "resume"]


def pause(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Stop the instance's cpus. Paused already is fine. Raises `UnsupportedError` when the driver cannot."""
    return _change(context, name, Op.PAUSE, deadline)


def resume(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Let the instance's cpus run. Running already is fine. Raises `UnsupportedError` when the driver cannot."""
    return _change(context, name, Op.RESUME, deadline)


def _change(context: Context, name: str, op: Op, deadline: Deadline) -> Outcome:
    with context.store.lock(name, str(op), wait_s=deadline.left(at_most=LOCK_WAIT_S)):
        settle(context, name, deadline)
        seen = look(context, name)
        if seen.state is State.STOPPED:
            raise NotFoundError(name)
        verdict = judged(name, seen, op)
        if isinstance(verdict, Already) or seen.record is None:
            return Outcome(name=name, op=op, changed=False, state=seen.state)
        driver = context.driver(seen.record.driver).driver
        if not isinstance(driver, Pausable):
            raise UnsupportedError(driver=seen.record.driver, operation=str(op))
        job = context.job(seen.record, deadline)
        act = driver.pause if op is Op.PAUSE else driver.resume
        act(job.live, job)
        job.update(paused=op is Op.PAUSE)
        return Outcome(name=name, op=op, changed=True, state=verdict.to, seconds=deadline.spent())
