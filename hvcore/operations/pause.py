"""Pausing an instance, and resuming it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hvcore.deadline import Deadline
from hvcore.model.answers import Outcome
from hvcore.model.state import Already, Move, Op
from hvcore.operations.context import Context
from hvcore.operations.observe import existing
from hvcore.operations.recover import settle
from hvcore.operations.saved_params import saved_params

__all__ = ["pause", "resume"]


def pause(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Pause the instance; no change if it is paused. Raises `UnsupportedError` if the driver cannot."""
    return _change(context, name, Op.PAUSE, deadline)


def resume(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Resume the instance; no change if it runs. Raises `UnsupportedError` if the driver cannot."""
    return _change(context, name, Op.RESUME, deadline)


def _change(context: Context, name: str, op: Op, deadline: Deadline) -> Outcome:
    with context.store.lock(name, str(op), wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, name, deadline)
        record, verdict = existing(context, name, op)
        loaded = context.driver(record.driver)
        act = loaded.able(op)
        job = context.job(record, deadline, loaded)
        about: dict[str, Any] = {}
        if isinstance(verdict, Move):
            about = {"instance": record.instance, "params": saved_params(loaded, record)}
            list(loaded.hooks.each(f"before_{op}", **about))
        job.update(paused=op is Op.PAUSE)
        # Also when nothing seems to be left to do: the state came from the guest's journal, and QEMU may know better.
        written = job.record
        act(job.live, job)
        if job.record is not written:
            job.update()
        if isinstance(verdict, Already):
            return Outcome(name=name, op=op, changed=False, state=verdict.state)
        outcome = Outcome(name=name, op=op, changed=True, state=verdict.to, seconds=deadline.spent())
        return replace(outcome, notes=loaded.hooks.notes(f"after_{op}", outcome=outcome, **about))
