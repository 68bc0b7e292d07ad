"""Stopping every instance of the node, many at a time, within one deadline."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import HvError, OperationError
from hvcore.model.answers import Outcome
from hvcore.operations.context import LOCK_WAIT_S, CallOptions, Context
from hvcore.operations.lifecycle.stop import stop

__all__ = ["stop_all"]

_AT_A_TIME: Final = 32  # a polite stop only waits for its guest


def stop_all(
    context: Context,
    *,
    force: bool,
    deadline: Deadline,
    done: Callable[[str, Outcome | HvError], None],
    options: CallOptions,
) -> dict[str, Outcome | HvError]:
    """Stop all instances with state on this node; the outcome or the error of each. ``done`` is called for each, here."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[str, Outcome | HvError]] = queue.SimpleQueue()
    names = context.store.names()
    for name in names:
        waiting.put(name)

    def work() -> None:
        while True:
            try:
                name = waiting.get_nowait()
            except queue.Empty:
                return
            ended.put((name, _stopped(context.for_call(name, "stop", patient), name, force=force, deadline=deadline)))

    context.for_call("", "stop", options)  # wrong ones are refused here
    # An instance that is not stopped now is cut off by the node's shutdown: a detach may wait for its guest for a while.
    patient: CallOptions = {"busy_s": max(LOCK_WAIT_S, deadline.left() / 2), **options}
    for number in range(min(_AT_A_TIME, len(names))):
        # As daemons: after ^C the program ends. What was interrupted is finished by the next operation.
        threading.Thread(target=work, name=f"hvcore-stop-{number}", daemon=True).start()
    found: dict[str, Outcome | HvError] = {}
    for _ in names:
        name, outcome = ended.get()
        found[name] = outcome
        done(name, outcome)
    return {name: found[name] for name in names}


def _stopped(context: Context, name: str, *, force: bool, deadline: Deadline) -> Outcome | HvError:
    try:
        return stop(context, name, force=force, deadline=deadline)
    except HvError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a bug: it must not keep the others from being stopped
        return OperationError(f"{name}: the stop raised {type(error).__name__}: {error}; report this")
