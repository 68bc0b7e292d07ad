"""The time of an event, as QEMU writes it."""

from __future__ import annotations

from typing import Any

__all__ = ["event_time"]


def event_time(stamp: Any) -> float | None:
    """Seconds since the epoch from a QMP timestamp; None when there is none or QEMU could not tell (-1)."""
    if not isinstance(stamp, dict):
        return None
    seconds, microseconds = stamp.get("seconds"), stamp.get("microseconds")
    if type(seconds) is not int or type(microseconds) is not int:
        return None
    if not (0 <= seconds < 1 << 40 and 0 <= microseconds < 1_000_000):
        return None
    return seconds + microseconds / 1e6
