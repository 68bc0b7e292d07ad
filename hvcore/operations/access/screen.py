"""The display of an instance: its picture, and the password of its clients."""

from __future__ import annotations

from hvcore.deadline import Deadline
from hvcore.errors import InputError, NotFoundError
from hvcore.model.answers import Outcome
from hvcore.model.observation import ConsoleAddress, ConsoleKind
from hvcore.model.state import ACTIVE, Op, State
from hvcore.operations.begin import begun
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import existing, observed

__all__ = ["consoles", "screenshot", "vnc_password"]

_MOST_BYTES = 8


def consoles(context: Context, name: str) -> tuple[ConsoleAddress, ...]:
    """The ways to reach the instance, text before graphics; a single message if it has no console. Raises `NotFoundError`."""
    seen = observed(context, name)
    if seen.state is State.STOPPED:
        raise NotFoundError(name)
    if seen.observation.consoles:
        return seen.observation.consoles
    why = "it was started without a console and without a display" if seen.state in ACTIVE else f"it is {seen.state}"
    return (ConsoleAddress(kind=ConsoleKind.MESSAGE, message=f"{name}: has no console now: {why}"),)


def screenshot(context: Context, name: str, *, deadline: Deadline) -> bytes:
    """The picture on the instance's display, as PNG. Raises `NotFoundError`, `UnsupportedError`, `StateError`."""
    with context.store.lock(name, "screenshot", wait_s=deadline.left(at_most=context.busy_s)):
        record, _ = existing(context, name, Op.SCREENSHOT)
        loaded = context.driver(record.driver)
        take = loaded.able(Op.SCREENSHOT)
        job = context.job(record, deadline, loaded)
        found: bytes = take(job.live, job)
        return found


def vnc_password(context: Context, name: str, password: str, *, valid_s: float | None, deadline: Deadline) -> Outcome:
    """Set the password of new VNC connections. It is neither written down nor shown in an error.

    Raises `InputError` for a password that VNC cannot have, `NotFoundError`, `UnsupportedError` and `StateError`.
    """
    size = len(password.encode("utf-8", "surrogateescape"))
    if not 1 <= size <= _MOST_BYTES or not password.isprintable() or not password.isascii():
        what = f"the VNC password must have 1 to {_MOST_BYTES} printable ASCII characters, got {size} bytes"
        raise InputError(f"{name}: {what}; VNC compares no more than {_MOST_BYTES}")
    with begun(context, name, Op.VNC_PASSWORD, deadline) as begin:
        job = context.job(begin.record, deadline, begin.loaded)
        begin.act(job.live, job, password, valid_s)
        state = observed(context, name).state
        return Outcome(name=name, op=Op.VNC_PASSWORD, changed=True, state=state, seconds=deadline.spent())
