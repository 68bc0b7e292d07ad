"""What a person does at a machine: press reset, the power button or keys, and send a non-maskable interrupt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import InputError
from hvcore.model.answers import Outcome
from hvcore.model.state import Already, Op
from hvcore.operations.context import Context
from hvcore.operations.observe import existing, observed
from hvcore.operations.recover import settle

__all__ = ["nmi", "powerdown", "reset", "send_keys"]

_COMBINATION: Final = re.compile("[a-z0-9_]+(-[a-z0-9_]+)*", re.ASCII)
_MOST: Final = 64


def reset(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Reset the machine at once, as its reset button. A paused instance stays paused, before its first instruction."""
    return _press(context, name, Op.RESET, deadline)


def powerdown(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Press the power button, and return. No change for a guest that has shut down."""
    return _press(context, name, Op.POWERDOWN, deadline)


def nmi(context: Context, name: str, *, deadline: Deadline) -> Outcome:
    """Send a non-maskable interrupt to the guest's CPUs."""
    return _press(context, name, Op.NMI, deadline)


def send_keys(context: Context, name: str, combinations: Sequence[str], *, deadline: Deadline) -> Outcome:
    """Press each combination of keys, such as ``ctrl-alt-delete``. Raises `InputError` before any is pressed."""
    if not combinations or len(combinations) > _MOST:
        raise InputError(f"{name}: keys: from 1 to {_MOST} combinations, got {len(combinations)}; give some")
    for one in combinations:
        if not _COMBINATION.fullmatch(f"{one}"):
            what = f"keys: must be names with '-' between them, got {one!r:.80}"
            raise InputError(f"{name}: {what}; give for example ctrl-alt-delete")
    keys = tuple(tuple(f"{one}".split("-")) for one in combinations)
    return _press(context, name, Op.SEND_KEY, deadline, keys)


def _press(context: Context, name: str, op: Op, deadline: Deadline, *arguments: object) -> Outcome:
    with context.store.lock(name, str(op), wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, name, deadline)
        record, verdict = existing(context, name, op)
        loaded = context.driver(record.driver)
        act = loaded.able(op)
        if isinstance(verdict, Already):
            return Outcome(name=name, op=op, changed=False, state=verdict.state)
        job = context.job(record, deadline, loaded)
        act(job.live, job, *arguments)
        return Outcome(
            name=name,
            op=op,
            changed=True,
            state=observed(context, name).state if op is Op.POWERDOWN else verdict.to,  # some guests obey at once
            seconds=deadline.spent(),
            notes=tuple(dict.fromkeys(job.remarks)),
        )
