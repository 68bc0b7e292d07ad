"""What running instances use: as their driver measures it, and as the node answers with it. Pure."""

from __future__ import annotations

from dataclasses import field, fields
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.state import State
from hvcore.plain import is_figure, plain_fields

__all__ = ["DiskUse", "InstanceUsage", "NicUse", "Usage", "usage_fault"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """Counters of one disk since the instance started: finished requests, and their bytes. ``disk`` is its name, ``disk0``."""

    disk: str
    reads: int
    writes: int
    read_bytes: int
    written_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NicUse:
    """Counters of one NIC since its interface exists, as the instance sees them. ``nic`` is its position."""

    nic: int
    interface: str
    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one instance uses, as its driver measures it. None: the driver does not know it.

    ``problem`` says why the driver could not measure everything, for example because the guest's monitor does not answer.
    ``memory_mib`` is the memory that the guest has now, which a balloon can make less than it started with. ``guest`` has
    figures that the guest itself reports, in MiB or as counters: no more than hints, because the guest can report anything.
    """

    problem: str | None = None
    vcpus: int | None = None
    memory_mib: int | None = None
    resident_mib: int | None = None
    cpu_seconds: float | None = None
    processes: int | None = None
    disks: tuple[DiskUse, ...] = ()
    guest: dict[str, int] = field(default_factory=dict)


_FIGURES: Final = ("vcpus", "memory_mib", "resident_mib", "cpu_seconds", "processes")


def usage_fault(found: object) -> str | None:
    """What no program can use in a driver's answer, or None: another type, a NaN, a number below 0."""
    if not isinstance(found, Usage):
        return f"is {found!r:.80}, not an hvcore.plugin.Usage"
    if not isinstance(found.problem, str | None):
        return f"has the problem {found.problem!r:.80}, not a text or None"
    counted = {name: getattr(found, name) for name in _FIGURES}
    for disk in found.disks:
        if not isinstance(disk, DiskUse):
            return f"has the disk {disk!r:.80}, not an hvcore.plugin.DiskUse"
        counted |= {
            f"{disk.disk}.{each.name}": getattr(disk, each.name) for each in fields(disk) if each.name != "disk"
        }
    counted |= {f"guest[{key!r}]": value for key, value in found.guest.items()}
    for name, value in counted.items():
        if value is not None and not is_figure(value):
            return f"has {name} = {value!r:.80}, not a number of at least 0 or None"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceUsage:
    """What one running instance uses now. ``to_json`` has stable keys. None: not known.

    ``problem`` says which figures are missing and why. ``memory_mib`` is what the guest has now, ``resident_mib`` the memory
    of its processes on the node, ``group_mib`` what its control group is charged with, the page cache of its files included.
    """

    name: str
    driver: str
    state: State
    problem: str | None = None
    vcpus: int | None = None
    cpu_seconds: float | None = None
    uptime_s: float | None = None
    memory_mib: int | None = None
    resident_mib: int | None = None
    group_mib: int | None = None
    processes: int | None = None
    oom_kills: int | None = None
    disks: tuple[DiskUse, ...] = ()
    nics: tuple[NicUse, ...] = ()
    guest: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The figures as plain JSON types."""
        return plain_fields(self)
