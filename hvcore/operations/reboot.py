"""Rebooting: a real stop, waited for, then a start of the machine that the record holds."""

from __future__ import annotations

from dataclasses import replace

from hvcore.deadline import Deadline
from hvcore.errors import VerifyError
from hvcore.model.outcome import Outcome
from hvcore.model.state import Op
from hvcore.operations.context import LOCK_WAIT_S, Context
from hvcore.operations.observe import existing
from hvcore.operations.recover import settle
from hvcore.operations.saved_machine import saved_machine
from hvcore.operations.start import announced, start_locked
from hvcore.operations.stop import stop_locked

__all__ = ["reboot"]


def reboot(context: Context, name: str, *, force: bool, deadline: Deadline, start_deadline: Deadline) -> Outcome:
    """Stop the instance, as `stop` does, and start the saved machine, without letting go of the instance's lock.

    Values of parameters that may change at a launch are read again; the outcome's notes say which were taken, which
    could not be, and what takes effect at a stop and a start only.

    Raises what `stop` and `start` raise. It is checked and verified while it still runs, so that it is not stopped
    for nothing; when the start fails all the same, the instance is stopped and the error says why.
    """
    with context.store.lock(name, "reboot", wait_s=deadline.left(at_most=LOCK_WAIT_S)):
        settle(context, name, deadline)
        record, _ = existing(context, name, Op.REBOOT)
        loaded = context.driver(record.driver)
        wanted, notes = saved_machine(context, loaded, record)
        problems = loaded.verify(wanted.spec, wanted.params, context.host)
        if problems:
            raise VerifyError(name, wanted.layers.placed(problems, wanted.params))
        stopped = stop_locked(context, name, force=force, deadline=deadline)
        started = start_locked(context, loaded, wanted, start_deadline)
    started = announced(loaded, wanted, started)
    seconds = deadline.spent()
    notes = (*notes, *stopped.notes, *started.notes)
    return replace(started, op=Op.REBOOT, stopped_by=stopped.stopped_by, seconds=seconds, notes=notes)
