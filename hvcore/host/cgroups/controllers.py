"""The controllers of one control group: what sets its limits, and what counts what it uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from hvcore.host.cgroups.group_files import ControlFiles
from hvcore.model.limits import GroupLimits

__all__ = ["Controllers", "Grip", "GroupFigures", "freezer_grip", "unified_grip"]

_CPU_PERIOD_US: Final = 100_000  # the kernel's default; a quota is never below 1 ms
_NOWHERE: Final = "/no-such-controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The files of the controllers, below the directory of a group.

    ``swap_limit`` counts memory as well with ``swap_with_memory``. ``cpu_limit`` are files and what to write, in
    order, where ``{quota}`` and ``{period}`` are microseconds. ``cpu_used`` is in units of which there are
    ``cpu_used_per_s``, behind ``cpu_used_key``.
    """

    memory_limit: str
    swap_limit: str
    swap_with_memory: bool
    memory_used: str
    oom_kills: str
    cpu_limit: tuple[tuple[str, str], ...]
    cpu_used: str
    cpu_used_key: str
    cpu_used_per_s: float


V1: Final = Version(
    memory_limit="memory.limit_in_bytes",
    swap_limit="memory.memsw.limit_in_bytes",
    swap_with_memory=True,
    memory_used="memory.usage_in_bytes",
    oom_kills="memory.oom_control",
    cpu_limit=(("cpu.cfs_period_us", "{period}"), ("cpu.cfs_quota_us", "{quota}")),
    cpu_used="cpuacct.usage",
    cpu_used_key="",
    cpu_used_per_s=1e9,
)
V2: Final = Version(
    memory_limit="memory.max",
    swap_limit="memory.swap.max",
    swap_with_memory=False,
    memory_used="memory.current",
    oom_kills="memory.events",
    cpu_limit=(("cpu.max", "{quota} {period}"),),
    cpu_used="cpu.stat",
    cpu_used_key="usage_usec ",
    cpu_used_per_s=1e6,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grip:
    """A group's directory in the hierarchy that can stop, find and end all of its processes, and how that is done.

    ``freezer`` is written ``frozen`` or ``thawed``. ``stands`` is a file, and what it says once all stand still;
    ``busy`` one that says so while a process is in the group, None where nothing does.
    """

    directory: str
    freezer: str
    frozen: str
    thawed: str
    stands: tuple[str, str]
    busy: tuple[str, str] | None


def unified_grip(directory: str) -> Grip:
    """That of cgroup v2."""
    events = f"{directory}/cgroup.events"
    freezer = f"{directory}/cgroup.freeze"
    return Grip(
        directory=directory,
        freezer=freezer,
        frozen="1",
        thawed="0",
        stands=(events, "frozen 1"),
        busy=(events, "populated 1"),
    )


def freezer_grip(directory: str) -> Grip:
    """That of cgroup v1, in the hierarchy of the freezer; where that is missing nothing can be frozen."""
    freezer = f"{directory}/freezer.state"
    return Grip(
        directory=directory, freezer=freezer, frozen="FROZEN", thawed="THAWED", stands=(freezer, "FROZEN"), busy=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """What all processes of a group use together, those that ended included in the cpu time. None: nobody counts it.

    ``processes`` counts threads, as the kernel's limit does; ``oom_kills`` are processes killed at the memory limit.
    """

    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    processes: int | None = None
    oom_kills: int | None = None


class Controllers:
    """By controller the group's directory in the hierarchy that has it; ``unified`` is that in v2, None without v2."""

    def __init__(self, files: ControlFiles, unified: str | None, places: Mapping[str, str]) -> None:
        self._files = files
        self._unified = unified
        self._places = places

    def settings(self, limits: GroupLimits) -> Iterator[tuple[str, str]]:
        """Files, and what to write into them so that the limits hold, in order."""
        if limits.memory_bytes is not None:
            place, names = self._of("memory")
            yield f"{place}/{names.memory_limit}", str(limits.memory_bytes)
            swap = f"{place}/{names.swap_limit}"
            if self._files.read(swap):  # not on a kernel that does not count swap
                yield swap, str(limits.memory_bytes) if names.swap_with_memory else "0"
        if limits.cpus is not None:
            place, names = self._of("cpu")
            quota_us = max(1000, round(limits.cpus * _CPU_PERIOD_US))
            for name, value in names.cpu_limit:
                yield f"{place}/{name}", value.format(quota=quota_us, period=_CPU_PERIOD_US)
        if limits.processes is not None:
            yield f"{self._of('pids')[0]}/pids.max", str(limits.processes)

    def figures(self) -> GroupFigures | None:
        """What the group uses now; None when nobody counts anything of it, as when it is gone."""
        place, names = self._of("memory")
        used = self._number(f"{place}/{names.memory_used}")
        killed = self._number(f"{place}/{names.oom_kills}", "oom_kill ")
        processes = self._number(f"{self._of('pids')[0]}/pids.current")
        # v2 counts it without the controller, too.
        place, names = self._of("cpuacct" if "cpuacct" in self._places else "cpu")
        if self._unified is not None:
            place, names = self._unified, V2
        ticks = self._number(f"{place}/{names.cpu_used}", names.cpu_used_key)
        if used is ticks is processes is None:
            return None
        cpu_seconds = None if ticks is None else ticks / names.cpu_used_per_s
        return GroupFigures(memory_bytes=used, cpu_seconds=cpu_seconds, processes=processes, oom_kills=killed)

    def _of(self, controller: str) -> tuple[str, Version]:
        place = self._places.get(controller, _NOWHERE)
        return place, V2 if place == self._unified else V1

    def _number(self, path: str, key: str = "") -> int | None:
        """The number behind ``key`` in one of the file's lines; None when there is none."""
        found = re.search(rf"^{key}(\d+)$", self._files.read(path), re.MULTILINE)
        return None if found is None else int(found[1])
