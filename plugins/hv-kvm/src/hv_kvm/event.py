"""One event of QEMU, from its monitor or from the journal that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["QmpEvent", "read_event"]


class QmpEvent(NamedTuple):  # a dataclass would take a millisecond of every listing to make
    """One asynchronous event. ``data`` is empty when QEMU sent none; ``at`` is QEMU's wall clock in seconds."""

    name: str
    data: Mapping[str, Any]
    at: float | None


def read_event(message: Mapping[str, Any]) -> QmpEvent:
    """The event in a QMP message that has the member ``event``."""
    data = message.get("data")
    at = _seconds(message.get("timestamp"))
    return QmpEvent(name=str(message["event"]), data=data if isinstance(data, dict) else {}, at=at)


def _seconds(stamp: Any) -> float | None:
    """Seconds since the epoch; None when there is no time in the event or QEMU did not know it (-1)."""
    if not isinstance(stamp, dict):
        return None
    seconds, microseconds = stamp.get("seconds"), stamp.get("microseconds")
    if type(seconds) is not int or type(microseconds) is not int:
        return None
    return seconds + microseconds / 1e6 if 0 <= seconds < 1 << 40 and 0 <= microseconds < 1_000_000 else None
