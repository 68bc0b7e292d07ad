"""A time limit on the monotonic clock."""

from __future__ import annotations

import time

__all__ = ["Deadline"]


class Deadline:
    """``Deadline(30)`` is 30 seconds from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._begun = time.monotonic()

    def left(self, at_most: float | None = None) -> float:
        """Seconds until the deadline, not below 0 and not above ``at_most``."""
        left = max(0.0, self._begun + self.seconds - time.monotonic())
        return left if at_most is None else min(left, at_most)

    def spent(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._begun
