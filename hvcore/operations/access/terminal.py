"""Access to an instance: its console, a program inside it, its log. Changes nothing on the node."""

from __future__ import annotations

from dataclasses import replace

from hvcore.errors import InputError, UnsupportedError
from hvcore.model.answers import Console, Execution, Log
from hvcore.model.state import Op
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import existing
from hvcore.plugins.protocols import HasLog

__all__ = ["console", "console_log", "execution", "log"]


def console(context: Context, name: str) -> Console:
    """The console, with the file that its user locks.

    Raises `NotFoundError`, `UnsupportedError`, and `StateError` unless the instance runs or is paused.
    """
    record, _ = existing(context, name, Op.CONSOLE)
    reach = context.driver(record.driver).able(Op.CONSOLE)
    live = context.live(record)
    found: Console = reach(live)
    return replace(found, lock=str(live.dir / "console.lock"))


def execution(context: Context, name: str, argv: tuple[str, ...], *, terminal: bool) -> Execution:
    """How to run a program inside. Raises `NotFoundError`, `UnsupportedError`, and `StateError` unless the instance runs."""
    if not argv or not argv[0] or any("\0" in argument for argument in argv):
        raise InputError(f"{name}: not a command, got {argv!r}; give a program, and arguments without NUL bytes")
    record, _ = existing(context, name, Op.EXEC)
    command = context.driver(record.driver).able(Op.EXEC)
    return Execution(name=name, argv=command(context.live(record), argv, terminal=terminal))


def log(context: Context, name: str) -> Log:
    """The file with its output. Raises `NotFoundError`, and `UnsupportedError` when its driver keeps no output."""
    record, _ = existing(context, name, Op.LOG)
    place = context.driver(record.driver).able(Op.LOG)
    return Log(name=name, path=str(place(context.live(record))))


def console_log(context: Context, name: str) -> Log:
    """The file with the end of what the instance wrote to its console. Raises as `log` does."""
    record, _ = existing(context, name, Op.CONSOLE_LOG)
    driver = context.driver(record.driver)
    try:
        place = driver.able(Op.CONSOLE_LOG)
    except UnsupportedError as error:
        if not isinstance(driver.driver, HasLog):
            raise
        reason = f"its console has no history; see 'hv log {name}'"
        raise UnsupportedError(driver=record.driver, operation=str(Op.CONSOLE_LOG), reason=reason) from error
    return Log(name=name, path=str(place(context.live(record))))
