"""Slow work: a spinner on stderr, on a terminal, and a time limit for code that takes no deadline."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

from hvcore.cli.output import is_terminal, printable

if TYPE_CHECKING:
    from rich.status import Status

__all__ = ["line_of_progress", "progress", "time_limit"]

_APPEARS_AFTER_S: Final = 0.5
_COUNTS_AFTER_S: Final = 1.0
_HINT_AFTER_S: Final = 3.0


def _silent(_text: str) -> None: ...


@contextmanager
def progress(what: str, hint: str = "") -> Iterator[Callable[[str], None]]:
    """While the block runs, show ``what`` and then each text that the yielded function gets, with the seconds gone.

    ``hint`` is added when the work takes long.
    """
    if not is_terminal(sys.stderr) or os.environ.get("TERM") in (None, "", "dumb"):
        yield _silent
        return
    spinner = _Spinner(what, hint)
    spinner.begin()
    try:
        yield spinner.show
    finally:
        spinner.end()


class _Spinner:
    def __init__(self, text: str, hint: str = "") -> None:
        self._text = text
        self._hint = hint
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._ended = False
        self._status: Status | None = None
        self._timer = threading.Timer(_APPEARS_AFTER_S, self._appear)
        self._timer.daemon = True

    def begin(self) -> None:
        self._timer.start()

    def show(self, text: str) -> None:
        self._text = text  # the next picture has it

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._status is not None:
                self._status.stop()
        self._timer.cancel()
        # A console forks next, and no other thread may be at work then.
        self._timer.join()

    def __rich__(self) -> str:
        """The text of one picture of the spinner; rich asks for it some ten times a second."""
        from rich.markup import escape  # noqa: PLC0415 - 30 ms with the console, for slow work only

        return escape(printable(line_of_progress(self._text, self._hint, time.monotonic() - self._began)))

    def _appear(self) -> None:
        try:
            from rich.console import Console  # noqa: PLC0415 - as in __rich__
        except ModuleNotFoundError:
            return
        with self._lock:
            if not self._ended:
                self._status = Console(stderr=True).status(self)
                self._status.start()


def line_of_progress(text: str, hint: str, seconds: float) -> str:
    """What is done, the seconds since it began, and after a while the hint."""
    if seconds < _COUNTS_AFTER_S:
        return text
    more = f"; {hint}" if hint and seconds >= _HINT_AFTER_S else ""
    return f"{text} ({seconds:.0f} s{more})"


@contextmanager
def time_limit(seconds: float) -> Iterator[Callable[[], None]]:
    """Raise TimeoutError in the block, ``seconds`` after the last call of the yielded function, and never after the block.

    It can come at any line of the block, so catch TimeoutError around it. Raises again after the same time, because a
    plugin may catch the first. Works by a signal, so only in the main thread. In other threads nothing is raised.
    """
    over = False

    def overdue(_signum: int, _frame: FrameType | None) -> None:
        if not over:
            raise TimeoutError(f"not done within {seconds:g} s")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def begin() -> None:
        # The interval leaves time to report the first error, also on a busy node.
        signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds, 1.0))

    before = signal.signal(signal.SIGALRM, overdue)
    try:
        try:
            yield begin
        finally:
            over = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
