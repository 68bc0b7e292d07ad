"""Pausing an instance, and resuming it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hvcore.deadline import Deadline
from hvcore.model.answers import Outcome
from hvcore.model.state import Already, Move, Op
from hvcore.operations.begin import begun
from hvcore.operations.context import Context
from hvcore.operations.saved_params import saved_params

__all__ = ["pause", "resume"]


def pause(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Pause the instance; no change if it is paused. Raises `UnsupportedError` if the driver cannot."""
    return _change(context, name, Op.PAUSE, deadline)


def resume(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Resume the instance; no change if it runs. Raises `UnsupportedError` if the driver cannot."""
    return _change(context, name, Op.RESUME, deadline)


def _change(context: Context, name: str, op: Op, deadline: Deadline) -> Outcome:
    with begun(context, name, op, deadline) as begin:
        record, loaded = begin.record, begin.loaded
        job = context.job(record, deadline, loaded)
        about: dict[str, Any] = {}
        if isinstance(begin.verdict, Move):
            about = {"instance": record.instance, "params": saved_params(loaded, record)}
            list(loaded.hooks.each(f"before_{op}", **about))
        job.update(paused=op is Op.PAUSE)
        # Also when nothing seems to be left to do: the state came from the guest's journal, and QEMU may know better.
        written = job.record
        begin.act(job.live, job)
        if job.record is not written:
            job.update()
        if isinstance(begin.verdict, Already):
            return Outcome(name=name, op=op, changed=False, state=begin.state)
        outcome = Outcome(name=name, op=op, changed=True, state=begin.state, seconds=deadline.spent())
        return replace(outcome, notes=loaded.hooks.notes(f"after_{op}", outcome=outcome, **about))
