"""Rebooting: a real stop, waited for, then a start of the same instance."""

from __future__ import annotations

from dataclasses import replace

from hvcore.deadline import Deadline
from hvcore.errors import OperationError, VerifyError
from hvcore.model.outcome import Outcome
from hvcore.model.record import Record
from hvcore.model.state import Op
from hvcore.operations.context import LOCK_WAIT_S, Context
from hvcore.operations.observe import existing
from hvcore.operations.recover import settle
from hvcore.operations.start import announced, decide, start_locked
from hvcore.operations.stop import stop_locked

__all__ = ["reboot"]


def reboot(context: Context, name: str, *, force: bool, deadline: Deadline, start_deadline: Deadline) -> Outcome:
    """Stop the instance, as `stop` does, and start it again as it was defined, without letting go of its lock.

    Raises what `stop` and `start` raise. It is checked and verified while it still runs, so that it is not stopped
    for nothing; when the start fails all the same, the instance is stopped and the error says why.
    """
    with context.store.lock(name, "reboot", wait_s=deadline.left(at_most=LOCK_WAIT_S)):
        settle(context, name, deadline)
        record = _to_reboot(context, name)
        loaded = context.driver(record.driver)
        wanted = decide(loaded, record.instance, context.layers(record.instance), paused=False)
        problems = loaded.verify(wanted.spec, wanted.params, context.host)
        if problems:
            raise VerifyError(name, wanted.layers.placed(problems, wanted.params))
        stopped = stop_locked(context, name, force=force, deadline=deadline)
        started = start_locked(context, loaded, wanted, start_deadline)
    started = announced(loaded, wanted, started)
    seconds = deadline.spent()
    return replace(started, op=Op.REBOOT, rung=stopped.rung, seconds=seconds, notes=(*stopped.notes, *started.notes))


def _to_reboot(context: Context, name: str) -> Record:
    record, _ = existing(context, name, Op.REBOOT)
    if record.withheld:
        what = f"cannot be started again from its record, secret {', '.join(record.withheld)} is not in it"
        raise OperationError(f"{name}: {what}; stop it and start it from its instance file")
    return record
