"""How to reach an instance's console. Changes nothing."""

from __future__ import annotations

from dataclasses import replace

from hvcore.driver import HasConsole
from hvcore.errors import UnsupportedError
from hvcore.model.info import Console
from hvcore.model.state import Op
from hvcore.operations.context import Context
from hvcore.operations.look import existing

__all__ = ["console"]


def console(context: Context, name: str) -> Console:
    """The console, with the file to lock while somebody sits at it.

    Raises `NotFoundError`, `UnsupportedError`, and `StateError` while there is nobody to talk to.
    """
    record, _ = existing(context, name, Op.CONSOLE)
    driver = context.driver(record.driver).driver
    if not isinstance(driver, HasConsole):
        raise UnsupportedError(driver=record.driver, operation="console")
    live = context.live(record)
    return replace(driver.console(live), lock=str(live.dir / "console.lock"))
