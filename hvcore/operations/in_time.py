"""Calls of plugins with a time limit. Python cannot abort a call, so one that hangs is left behind in its thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

__all__ = ["OverdueError", "in_time", "side_by_side"]

T = TypeVar("T")

_LATER_CALLS: Final = 0.1  # of the limit: after the first call that hangs, the others share its fate or are quick


class OverdueError(Exception):
    """A call took longer than its limit; it goes on in ``thread``."""

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = thread
        super().__init__("took too long")


def in_time(calls: Sequence[Callable[[], T]], limit_s: float) -> list[T | BaseException]:
    """The result or the error of each call, in order; `OverdueError` for one that takes longer than ``limit_s``.

    All are called in one other thread. After a call that hangs, the rest is called in a new one.
    """
    found: list[T | BaseException] = []
    while len(found) < len(calls):
        batch = _Batch(calls[len(found) :])
        found += batch.results_within(limit_s)
        if batch.abandoned:
            limit_s = min(limit_s, max(limit_s * _LATER_CALLS, 0.1))
    return found


def side_by_side(calls: Sequence[Callable[[], T]], limit_s: float) -> list[T | BaseException]:
    """Like `in_time`, but each call in its own thread, and all of them within ``limit_s`` together."""
    batches = [_Batch([call]) for call in calls]
    threads = [batch.begin() for batch in batches]
    until = time.monotonic() + limit_s
    return [batch.results(thread, lambda: until)[0] for batch, thread in zip(batches, threads, strict=True)]


class _Batch(Generic[T]):
    def __init__(self, calls: Sequence[Callable[[], T]]) -> None:
        self.abandoned = False
        self._calls = calls
        self._results: list[T | BaseException] = []
        self._begun = time.monotonic()
        self._done = threading.Event()

    def begin(self) -> threading.Thread:
        """Call them in another thread, from now on."""
        thread = threading.Thread(target=self._run, name="observe", daemon=True)
        thread.start()
        return thread

    def results_within(self, limit_s: float) -> list[T | BaseException]:
        """Call them, each within ``limit_s``."""
        return self.results(self.begin(), lambda: self._begun + limit_s)

    def results(self, thread: threading.Thread, until: Callable[[], float]) -> list[T | BaseException]:
        """The results up to the call that had not ended at its time, in monotonic seconds; that call is left behind."""
        while not self._done.wait(max(0.001, until() - time.monotonic())):
            count = len(self._results)
            if time.monotonic() >= until() and count == len(self._results) and not self._done.is_set():
                self.abandoned = True
                return [*self._results[:count], OverdueError(thread)]
        thread.join()
        return self._results

    def _run(self) -> None:
        for call in self._calls:
            self._begun = time.monotonic()
            try:
                self._results.append(call())
            except BaseException as error:  # noqa: BLE001 - returned to the caller in the other thread
                self._results.append(error)
            if self.abandoned:
                return
        self._done.set()
