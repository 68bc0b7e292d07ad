"""What a person does at a machine: press reset, the power button or keys, and send a non-maskable interrupt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import InputError
from hvcore.model.answers import Outcome
from hvcore.model.state import Already, Op
from hvcore.operations.begin import begun
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed

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
    with begun(context, name, op, deadline) as begin:
        if isinstance(begin.verdict, Already):
            return Outcome(name=name, op=op, changed=False, state=begin.state)
        job = context.job(begin.record, deadline, begin.loaded)
        begin.act(job.live, job, *arguments)
        return Outcome(
            name=name,
            op=op,
            changed=True,
            state=observed(context, name).state if op is Op.POWERDOWN else begin.state,  # some guests obey at once
            seconds=deadline.spent(),
            notes=tuple(dict.fromkeys(job.remarks)),
        )
