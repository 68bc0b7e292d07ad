"""What instances did between two measurements of their counters."""

from __future__ import annotations

from typing import NamedTuple

import hvcore

__all__ = ["Rates", "rates_between"]


class Rates(NamedTuple):
    """Of one instance, in a second: percent of one CPU, and bytes. None: not known, such as for a new instance."""

    cpu_percent: float | None = None
    read_bytes: float | None = None
    written_bytes: float | None = None
    received_bytes: float | None = None
    sent_bytes: float | None = None


def rates_between(before: hvcore.InstanceUsage | None, after: hvcore.InstanceUsage, seconds: float) -> Rates:
    """The rates between two measurements, ``seconds`` apart. A counter that went back began again: its rate is not known."""
    if before is None or seconds <= 0.0 or (before.uptime_s or 0.0) > (after.uptime_s or 0.0):
        return Rates()

    def rate(first: float | None, second: float | None) -> float | None:
        if first is None or second is None or second < first:
            return None
        return (second - first) / seconds

    cpu = rate(before.cpu_seconds, after.cpu_seconds)
    disks = [_summed(usage, "disks", ("read_bytes", "written_bytes")) for usage in (before, after)]
    nics = [_summed(usage, "nics", ("received_bytes", "sent_bytes")) for usage in (before, after)]
    return Rates(
        None if cpu is None else cpu * 100.0,
        *(rate(first, second) for first, second in zip(*disks, strict=True)),
        *(rate(first, second) for first, second in zip(*nics, strict=True)),
    )


def _summed(usage: hvcore.InstanceUsage, devices: str, counters: tuple[str, ...]) -> tuple[float | None, ...]:
    found = getattr(usage, devices)
    return tuple(sum(getattr(device, counter) for device in found) if found else None for counter in counters)
