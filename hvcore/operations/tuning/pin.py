"""Pinning the threads of a running instance to CPUs of the node."""

from __future__ import annotations

from hvcore.deadline import Deadline
from hvcore.model.answers import Outcome
from hvcore.model.state import Op
from hvcore.model.tuned import Pins, checked_pins
from hvcore.operations.begin import begun
from hvcore.operations.context import Context

__all__ = ["pin"]


def pin(context: Context, name: str, pins: Pins, *, deadline: Deadline) -> Outcome:
    """Pin the threads, now and after every reboot. No change if they are pinned so.

    Raises `InputError`, `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` for CPUs that the instance
    may not use.
    """
    wanted = checked_pins(name, pins)
    with begun(context, name, Op.PIN, deadline) as begin:
        job = context.job(begin.record, deadline, begin.loaded)
        written = job.record
        changed = bool(begin.act(job.live, job, wanted))
        if job.record is not written:
            job.update()
        seconds, notes = deadline.spent() if changed else 0.0, tuple(job.remarks)
        return Outcome(name=name, op=Op.PIN, changed=changed, state=begin.state, seconds=seconds, notes=notes)
