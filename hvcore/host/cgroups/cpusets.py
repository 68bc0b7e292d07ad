"""The CPUs that the control groups of a process let it run on: cgroups(7), cpuset(7)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.params.host_types import cpu_sets

__all__ = ["allowed_cpus"]

_FILES = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")


def allowed_cpus(pid: int, groups: ControlGroups) -> frozenset[int] | None:
    """The CPUs of the process's cpuset; None if the node has no cpusets, or the process has exited."""
    for place in _cpusets(pid, groups):
        directory = place
        # A group of v2 without the controller has the CPUs of the group above it.
        while os.path.exists(f"{directory}/cgroup.procs"):
            for name in _FILES:
                found = groups.files.read(f"{directory}/{name}").strip()
                if found:
                    return cpu_sets(found)[0]
            directory = os.path.dirname(directory)
    return None


def _cpusets(pid: int, groups: ControlGroups) -> Iterator[str]:
    for line in groups.files.read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpuset" in controllers.split(",") and "cpuset" in groups.by_controller:
            yield f"{groups.by_controller['cpuset']}{path}".rstrip("/")
        elif not controllers and groups.unified is not None:
            yield f"{groups.unified}{path}".rstrip("/")
