"""Rebooting: a real stop, waited for, then a start of the same instance."""

from __future__ import annotations

from dataclasses import replace

from hvcore.deadline import Deadline
from hvcore.errors import NotFoundError, OperationError
from hvcore.model.info import Outcome
from hvcore.model.state import Op, State
from hvcore.operations.context import LOCK_WAIT_S, Context
from hvcore.operations.look import judged, look
from hvcore.operations.recover import settle
from hvcore.operations.start import start
from hvcore.operations.stop import stop

__all__ = ["reboot"]


def reboot(context: Context, name: str, *, force: bool, deadline: Deadline, start_deadline: Deadline) -> Outcome:
    """Stop the instance, as `stop` does, and start it again as it was defined.

    Raises what `stop` and `start` raise. When the start fails the instance is stopped, and the error says why.
    """
    with context.store.lock(name, "reboot", wait_s=deadline.left(at_most=LOCK_WAIT_S)):
        settle(context, name, deadline)
    seen = look(context, name)
    if seen.state is State.STOPPED:
        raise NotFoundError(name)
    judged(name, seen, Op.REBOOT)
    if seen.record is None:
        raise NotFoundError(name)
    if seen.record.withheld:
        what = f"cannot be started again from its record, secret {', '.join(seen.record.withheld)} is not in it"
        raise OperationError(f"{name}: {what}; stop it and start it from its instance file")
    loaded = context.driver(seen.record.driver)
    # Before anything is stopped: the node's values may have changed since it was started, or its profile be gone.
    loaded.check(seen.record.instance, context.layers(seen.record.instance))
    stopped = stop(context, name, force=force, deadline=deadline)
    started = start(context, loaded, seen.record.instance, paused=False, deadline=start_deadline)
    seconds = deadline.spent()
    return replace(started, op=Op.REBOOT, rung=stopped.rung, seconds=seconds, notes=(*stopped.notes, *started.notes))
