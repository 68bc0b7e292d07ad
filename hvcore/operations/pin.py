"""Pinning the threads of a running instance to CPUs of the node."""

from __future__ import annotations

from hvcore.deadline import Deadline
from hvcore.model.answers import Outcome
from hvcore.model.state import Move, Op
from hvcore.model.tuned import Pins, checked_pins
from hvcore.operations.context import Context
from hvcore.operations.observe import existing
from hvcore.operations.recover import settle

__all__ = ["pin"]


def pin(context: Context, name: str, pins: Pins, *, deadline: Deadline) -> Outcome:
    """Pin the threads, now and after every reboot. No change if they are pinned so.

    Raises `InputError`, `NotFoundError`, `UnsupportedError`, `StateError`, and `OperationError` for CPUs that the instance
    may not use.
    """
    wanted = checked_pins(name, pins)
    with context.store.lock(name, str(Op.PIN), wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, name, deadline)
        record, verdict = existing(context, name, Op.PIN)
        loaded = context.driver(record.driver)
        act = loaded.able(Op.PIN)
        job = context.job(record, deadline, loaded)
        written = job.record
        changed = bool(act(job.live, job, wanted))
        if job.record is not written:
            job.update()
        state = verdict.to if isinstance(verdict, Move) else verdict.state
        seconds = deadline.spent() if changed else 0.0
        return Outcome(name=name, op=Op.PIN, changed=changed, state=state, seconds=seconds, notes=tuple(job.remarks))
