"""Whether the node has the memory for a guest, and the room for the files that its start writes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hv_kvm.devices.memory import HotMemory, Memory
from hv_kvm.machine.resource import Image, PrivateCopy, ShownFile, TemporaryOverlay
from hv_kvm.machine.saved import saved_device
from hv_kvm.machine.spec import KvmSpec
from hvcore.plugin import Level, Problem, Record, Site, figures, identify, marked_for

__all__ = ["available_mib", "memory_problems", "more_memory_problems", "room_problems", "too_little"]

_OURS_BYTES: Final = 1 << 20  # the record, the log, the journal of events
_PASSWORD_BYTES: Final = 4096
_OVERLAY_BYTES: Final = 1 << 20  # an empty one, and the first clusters that the guest writes


def memory_problems(spec: KvmSpec, site: Site, meminfo: Path = Path("/proc/meminfo")) -> Iterator[Problem]:
    """The guest's memory must be available, unless it comes from a file system or may be more than the node has.

    The memory of a guest that already runs counts as available: this may be before a reboot. A limit of the control
    group that the guest is in counts as the node's memory does.
    """
    if any(memory.path is not None or memory.overcommit for memory in spec.of(Memory)):
        return
    wanted_mib = spec.memory_mib + sum(device.asked_mib for device in spec.of(HotMemory))
    yield from _too_much(wanted_mib, "memory_mib", site, site.host.cgroups.memory_limit(), meminfo)


def more_memory_problems(
    record: Record, wanted_mib: int, where: str, site: Site, meminfo: Path = Path("/proc/meminfo")
) -> Iterator[Problem]:
    """The same for a running guest that is to have ``wanted_mib`` from now on: what its start checked for less."""
    memory: Mapping[str, Any] = saved_device(record.spec, "Memory") or {}
    if memory.get("path") is None and not memory.get("overcommit"):
        limit = site.host.cgroups.memory_limit(None if record.process is None else record.process.pid)
        yield from _too_much(wanted_mib, where, site, limit, meminfo)


def _too_much(
    wanted_mib: int, where: str, site: Site, limit: tuple[str, int] | None, meminfo: Path
) -> Iterator[Problem]:
    rows, at_start = meminfo.read_text(encoding="utf-8"), where == "memory_mib"
    if limit is not None and wanted_mib > (allowed := (limit[1] >> 20) + available_mib(rows, ("SwapFree",))):
        what = f"is more than the {allowed} MiB of memory and swap that its control group allows ({limit[0]})"
        todo = "give less, raise that limit, or start it from another control group"
        yield Problem(
            path=where, what=what, got=str(wanted_mib), todo=todo if at_start else "give less, or raise that limit"
        )
        return
    available = available_mib(rows)
    if wanted_mib > available and wanted_mib > (available := available + _own_mib(site)):
        what = f"is more than the {available} MiB of memory and swap that this node has available"
        todo = "give less, stop another instance, or set memory_overcommit = true"
        yield Problem(
            path=where, what=what, got=str(wanted_mib), todo=todo if at_start else "give less, or stop another instance"
        )


def available_mib(meminfo: str, keys: tuple[str, ...] = ("MemAvailable", "SwapFree")) -> int:
    """The sum of these rows of /proc/meminfo. Default: memory that programs can still get, swap included. Pure."""
    rows = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return sum(int(rows[key].split()[0]) for key in keys if key in rows) >> 10


def _own_mib(site: Site) -> int:
    marked = marked_for(site.dir, site.host.uid_pool)
    found = [process for pid in marked if (process := identify(pid)) is not None]
    measured = [figures(process) for process in found]
    return sum(each.resident_mib for each in measured if each is not None)


def room_problems(spec: KvmSpec, site: Site) -> Iterator[Problem]:
    """Each file system that a start writes to must have room for all of it: copies, and files made from templates."""
    wanted: dict[int, tuple[Path, int, str]] = {}
    for where, directory, size_bytes in _written(spec, site):
        place = _existing(directory)
        device = place.stat().st_dev
        _, before, first = wanted.get(device, (place, 0, where))
        wanted[device] = place, before + size_bytes, first
    for place, size_bytes, where in wanted.values():
        found = os.statvfs(place)
        free_bytes = found.f_bavail * found.f_frsize
        if free_bytes < size_bytes:
            yield Problem(
                path=where, what=too_little(size_bytes, free_bytes), got=repr(str(place)), todo="free some space there"
            )


def too_little(size_bytes: int, free_bytes: int) -> str:
    """Two sizes in words, for less that is free than is written: rounded apart, so that they never look equal. Pure."""
    written, free = -(-size_bytes * 10 // (1 << 20)), free_bytes * 10 // (1 << 20)
    return f"a start writes {written / 10:.1f} MiB there, and {free / 10:.1f} MiB are free"


def _written(spec: KvmSpec, site: Site) -> Iterable[tuple[str, Path, int]]:
    """For each file that a start writes: what asks for it, its directory, and its size."""
    yield "run directory", site.dir, _OURS_BYTES
    for shown in spec.resources_of(ShownFile):
        if site.level is Level.STRICT and not _mode(shown.path) & stat.S_IROTH:
            yield shown.where, site.dir, _size(shown.path)
    for copy in spec.resources_of(PrivateCopy):
        yield copy.where, site.dir, _PASSWORD_BYTES if copy.password_bytes else _size(copy.path)
    for image in spec.resources_of(Image):
        if image.template is not None and not os.path.exists(image.path):
            yield image.where, Path(image.path).parent, _size(image.template)
        if image.make and not os.path.exists(image.path):
            yield image.where, Path(image.path).parent, _OVERLAY_BYTES
    for overlay in spec.resources_of(TemporaryOverlay):
        yield overlay.where, Path(overlay.directory), _OVERLAY_BYTES


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0  # another check reports it


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return stat.S_IROTH


def _existing(directory: Path) -> Path:
    """The directory, or the nearest above it that exists."""
    return next(place for place in (directory, *directory.parents) if place.exists())
