"""How to reach an instance's console. Changes nothing."""

from __future__ import annotations

from dataclasses import replace

from hvcore.driver import HasConsole
from hvcore.errors import NotFoundError, UnsupportedError
from hvcore.model.info import Console
from hvcore.model.state import Op, State
from hvcore.operations.context import Context
from hvcore.operations.look import judged, look

__all__ = ["console"]


def console(context: Context, name: str) -> Console:
    """The console, with the file to lock while somebody sits at it.

    Raises `NotFoundError`, `UnsupportedError`, and `StateError` while there is nobody to talk to.
    """
    seen = look(context, name)
    if seen.state is State.STOPPED:
        raise NotFoundError(name)
    judged(name, seen, Op.CONSOLE)
    if seen.record is None:
        raise NotFoundError(name)
    driver = context.driver(seen.record.driver).driver
    if not isinstance(driver, HasConsole):
        raise UnsupportedError(driver=seen.record.driver, operation="console")
    live = context.live(seen.record)
    return replace(driver.console(live), lock=str(live.dir / "console.lock"))
