"""Running a program inside an instance, and reading what it has written. Neither changes anything on the node."""

from __future__ import annotations

from hvcore.driver import Executes, HasLog
from hvcore.errors import InputError, UnsupportedError
from hvcore.model.info import Execution, Log
from hvcore.model.state import Op
from hvcore.operations.context import Context
from hvcore.operations.look import existing

__all__ = ["execution", "log"]


def execution(context: Context, name: str, argv: tuple[str, ...], *, terminal: bool) -> Execution:
    """How to run that program inside. Raises `NotFoundError`, `UnsupportedError`, and `StateError` unless it runs."""
    if not argv or not argv[0] or any("\0" in argument for argument in argv):
        raise InputError(f"{name}: not a command, got {argv!r}; give a program, and arguments without NUL bytes")
    record, _ = existing(context, name, Op.EXEC)
    driver = context.driver(record.driver).driver
    if not isinstance(driver, Executes):
        raise UnsupportedError(driver=record.driver, operation=str(Op.EXEC))
    return Execution(name=name, argv=driver.execution(context.live(record), argv, terminal=terminal))


def log(context: Context, name: str) -> Log:
    """What it has written so far. Raises `NotFoundError`, and `UnsupportedError` when its driver keeps none of it."""
    record, _ = existing(context, name, Op.LOG)
    driver = context.driver(record.driver).driver
    if not isinstance(driver, HasLog):
        raise UnsupportedError(driver=record.driver, operation=str(Op.LOG))
    return Log(name=name, path=str(driver.log(context.live(record))))
