"""What the two versions of control groups call their files, and what stands in them.

Written in the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/. Which of them has a controller differs
from node to node and from controller to controller, so each table is asked for one group's directory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["V1", "V2", "Grip", "Version", "freezer_grip", "unified_grip"]


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
