"""A spinner on stderr for what takes longer than half a second. Only on a terminal; else nothing at all."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from hvcore.cli.output import is_terminal, printable

if TYPE_CHECKING:
    from rich.status import Status

__all__ = ["patience", "progress"]

_APPEARS_AFTER_S: Final = 0.5


def _silent(_text: str) -> None: ...


@contextmanager
def progress(what: str) -> Iterator[Callable[[str], None]]:
    """Show ``what`` and then each text that the yielded function is given, while the block runs."""
    if not is_terminal(sys.stderr) or os.environ.get("TERM") in (None, "", "dumb"):
        yield _silent
        return
    spinner = _Spinner(what)
    spinner.begin()
    try:
        yield spinner.tell
    finally:
        spinner.end()


class _Spinner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lock = threading.Lock()
        self._over = False
        self._status: Status | None = None
        self._timer = threading.Timer(_APPEARS_AFTER_S, self._appear)
        self._timer.daemon = True

    def begin(self) -> None:
        self._timer.start()

    def tell(self, text: str) -> None:
        with self._lock:
            self._text = text
            if self._status is not None:
                self._status.update(self._shown())

    def end(self) -> None:
        with self._lock:
            self._over = True
            if self._status is not None:
                self._status.stop()
        self._timer.cancel()
        # A console forks next; no thread of ours may be in the middle of something then.
        self._timer.join()

    def _shown(self) -> str:
        from rich.markup import escape  # noqa: PLC0415 - 30 ms with the console, for work that takes a while

        return escape(printable(self._text))

    def _appear(self) -> None:
        try:
            from rich.console import Console  # noqa: PLC0415 - as in _shown
        except ModuleNotFoundError:
            return
        with self._lock:
            if not self._over:
                self._status = Console(stderr=True).status(self._shown())
                self._status.start()


_AGAIN_S: Final = 1.0  # for who takes the first for an error of what it tried


@contextmanager
def patience(seconds: float) -> Iterator[Callable[[], None]]:
    """Raise TimeoutError inside the block, wherever it is then, ``seconds`` after the yielded function was last called.

    By a signal, which only the main thread of a process gets: in another one nothing is ever raised.
    """

    def overdue(_signum: int, _frame: FrameType | None) -> NoReturn:
        raise TimeoutError(f"not done within {seconds:g} s")

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def begin() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)

    before = signal.signal(signal.SIGALRM, overdue)
    try:
        yield begin
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
