"""A time limit on the monotonic clock."""

from __future__ import annotations

import time
from typing import Final

from hvcore.errors import InputError

__all__ = ["LONGEST_S", "Deadline", "checked_seconds", "wall_clock_s"]

LONGEST_S: Final = 7 * 86_400.0
"""The longest deadline in seconds: a week. Linux waits at most 24 days at once."""


def checked_seconds(value: object, subject: str = "deadline_s") -> float:
    """``value`` as seconds from 0 to `LONGEST_S`. Raises `InputError` for NaN, and for anything but a number.

    Values come from web forms too, where ``json.loads`` reads NaN and Infinity.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and 0 <= value <= LONGEST_S:  # type: ignore[operator]  # False for NaN
        return float(value)  # type: ignore[arg-type]
    what = f"must be a number of seconds from 0 to {LONGEST_S:.0f}"
    raise InputError(f"{subject}: {what}, got {_shown(value)}; give for example {subject}=30.0")


def _shown(value: object) -> str:
    try:
        return f"{value!r:.40}"
    except ValueError:  # an int of more than 4300 digits has no repr
        return "a number with thousands of digits"


def wall_clock_s() -> float:
    """Seconds since 1970 now: a label for people, never for a deadline."""
    return time.time_ns() / 1e9


class Deadline:
    """``Deadline(30)`` is 30 seconds from now. Raises `InputError` for anything but seconds from 0 to a week."""

    def __init__(self, seconds: float) -> None:
        self.seconds = checked_seconds(seconds)
        self._begun = time.monotonic()

    def extended(self, seconds: float) -> Deadline:
        """A deadline that many seconds after this one."""
        later = Deadline(seconds)
        later.seconds, later._begun = self.seconds + seconds, self._begun
        return later

    def at_least(self, seconds: float) -> Deadline:
        """A deadline that ends with this one, but not before that many seconds from now. See `left` for its use."""
        return Deadline(self.left(at_least=seconds))

    def left(self, at_most: float | None = None, *, at_least: float = 0.0) -> float:
        """Seconds until the deadline, not below ``at_least`` and not above ``at_most``.

        ``at_least`` is for a wait that decides between success and failure and has to be tried: the end of a process after
        SIGKILL. On a busy node it may take as long as the operation has.
        """
        left = max(at_least, self._begun + self.seconds - time.monotonic())
        return left if at_most is None else min(left, at_most)

    def spent(self) -> float:
        """Seconds since the deadline was set."""
        return time.monotonic() - self._begun
