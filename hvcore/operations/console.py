"""How to reach an instance's console. Changes nothing."""

from __future__ import annotations

from dataclasses import replace

from hvcore.model.outcome import Console
from hvcore.model.state import Op
from hvcore.operations.context import Context
from hvcore.operations.look import existing

__all__ = ["console"]


def console(context: Context, name: str) -> Console:
    """The console, with the file to lock while somebody sits at it.

    Raises `NotFoundError`, `UnsupportedError`, and `StateError` while there is nobody to talk to.
    """
    record, _ = existing(context, name, Op.CONSOLE)
    reach = context.driver(record.driver).able(Op.CONSOLE)
    live = context.live(record)
    found: Console = reach(live)
    return replace(found, lock=str(live.dir / "console.lock"))
