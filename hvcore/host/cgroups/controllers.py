"""The files of one control group in cgroup v1 and v2: limits, figures, and what acts on all processes of the group.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/. A node may have one controller in v1 and
another in v2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.cgroups.group_files import ControlFiles
from hvcore.model.limits import GroupLimits

__all__ = ["Controllers", "Freezer", "GroupFigures", "v1_freezer", "v2_freezer"]

_CPU_PERIOD_US: Final = 100_000  # the kernel's default; a quota is never below 1 ms
_NOWHERE: Final = "/no-such-controller"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """The files of the controllers, below the directory of a group.

    With ``swap_with_memory``, ``swap_limit`` counts memory as well. ``cpu_limit`` are files and their contents, in the
    order to write them; ``{quota}`` and ``{period}`` are microseconds. ``cpu_used`` has the cpu time after
    ``cpu_used_key``, ``cpu_used_per_s`` units to a second.
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


_V1: Final = _Version(
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
_V2: Final = _Version(
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


@dataclass(frozen=True, slots=True)
class Freezer:
    """How to find, freeze and end all processes of a group: its directory in the one hierarchy that can, and files there.

    ``frozen`` or ``thawed`` is written to ``file``. ``all_frozen`` is a file and its text once every process is
    frozen; ``busy`` one and its text while the group has processes, None where no file says so.
    """

    directory: str
    file: str
    frozen: str
    thawed: str
    all_frozen: tuple[str, str]
    busy: tuple[str, str] | None


def v2_freezer(directory: str) -> Freezer:
    """The freezer of cgroup v2."""
    events = f"{directory}/cgroup.events"
    return Freezer(directory, f"{directory}/cgroup.freeze", "1", "0", (events, "frozen 1"), (events, "populated 1"))


def v1_freezer(directory: str) -> Freezer:
    """The freezer of cgroup v1, in the hierarchy of its freezer; in any other, freezing fails."""
    freezer = f"{directory}/freezer.state"
    return Freezer(directory, freezer, "FROZEN", "THAWED", (freezer, "FROZEN"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFigures:
    """What all processes of a group use, and the cpu time of those that exited. None: the node does not count it.

    ``processes`` counts threads, as the kernel's limit does; ``oom_kills`` are processes killed at the memory limit.
    """

    memory_bytes: int | None = None
    cpu_seconds: float | None = None
    processes: int | None = None
    oom_kills: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Controllers:
    """The directories of one group by controller. ``unified`` is its directory in cgroup v2, None without v2."""

    files: ControlFiles
    unified: str | None
    places: Mapping[str, str]

    def settings(self, limits: GroupLimits) -> Iterator[tuple[str, str]]:
        """Files and their contents for these limits, in the order to write them."""
        if limits.memory_bytes is not None:
            place, names = self._of("memory")
            yield f"{place}/{names.memory_limit}", str(limits.memory_bytes)
            swap = f"{place}/{names.swap_limit}"
            if self.files.read(swap):  # absent on a kernel that does not count swap
                yield swap, str(limits.memory_bytes) if names.swap_with_memory else "0"
        if limits.cpus is not None:
            place, names = self._of("cpu")
            quota_us = max(1000, round(limits.cpus * _CPU_PERIOD_US))
            for name, value in names.cpu_limit:
                yield f"{place}/{name}", value.format(quota=quota_us, period=_CPU_PERIOD_US)
        if limits.processes is not None:
            yield f"{self._of('pids')[0]}/pids.max", str(limits.processes)

    def figures(self) -> GroupFigures | None:
        """What the group uses now; None without any figure, as when the group does not exist any more."""
        place, names = self._of("memory")
        used = self._number(f"{place}/{names.memory_used}")
        killed = self._number(f"{place}/{names.oom_kills}", "oom_kill ")
        processes = self._number(f"{self._of('pids')[0]}/pids.current")
        place, names = self._of("cpuacct" if "cpuacct" in self.places else "cpu")
        if self.unified is not None:  # v2 counts cpu time without the controller, too
            place, names = self.unified, _V2
        ticks = self._number(f"{place}/{names.cpu_used}", names.cpu_used_key)
        if used is ticks is processes is None:
            return None
        cpu_seconds = None if ticks is None else ticks / names.cpu_used_per_s
        return GroupFigures(memory_bytes=used, cpu_seconds=cpu_seconds, processes=processes, oom_kills=killed)

    def _of(self, controller: str) -> tuple[str, _Version]:
        place = self.places.get(controller, _NOWHERE)
        return place, _V2 if place == self.unified else _V1

    def _number(self, path: str, key: str = "") -> int | None:
        """The number after ``key`` at the start of a line; None without one."""
        found = re.search(rf"^{key}(\d+)$", self.files.read(path), re.MULTILINE)
        return None if found is None else int(found[1])
