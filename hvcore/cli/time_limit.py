"""An end to waiting for what takes no deadline of its own: a plugin can hang when it is imported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

__all__ = ["patience"]

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
