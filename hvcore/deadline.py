"""A moment by which something has to be done, on the monotonic clock."""

from __future__ import annotations

import time

__all__ = ["Deadline"]


class Deadline:
    """``Deadline(30)`` is 30 seconds from now. ``left()`` is never negative."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begun = time.monotonic()

    def left(self, at_most: float | None = None) -> float:
        """Seconds until the deadline, zero when it is over, and not more than ``at_most``."""
        left = max(0.0, self._begun + self.seconds - time.monotonic())
        return left if at_most is None else min(left, at_most)

    def spent(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._begun
