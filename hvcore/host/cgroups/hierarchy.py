"""The control groups of this node, and which limits it can set with them.

cgroup v2 is one hierarchy, v1 has several with one or two controllers each, and many nodes have both. With both, v2 kills,
freezes and reports, and each limit is set in the hierarchy that has its controller. Sources: cgroups(7) and the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path

from hvcore.frozen import dataclass
from hvcore.host.cgroups.group_files import ControlFiles
from hvcore.model.limits import LIMITED, GroupLimits
from hvcore.model.names import sha256_hex

__all__ = ["ControlGroups", "control_groups", "group_name", "program_group_name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlGroups:
    """The hierarchies of this node that we may write to: the mount point of v2, and those of v1 by controller.

    ``shared_out`` are the controllers of v2 here. ``refused`` are the reasons why other hierarchies are not used,
    ``files`` reads and writes.
    """

    unified: str | None = None
    shared_out: tuple[str, ...] = ()
    by_controller: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    files: ControlFiles = field(default_factory=ControlFiles)

    @property
    def usable(self) -> bool:
        """Whether instances can have groups here."""
        return self.unified is not None or any(name in self.by_controller for name in (*LIMITED, "freezer"))

    def memory_limit(self, pid: int | None = None) -> tuple[str, int] | None:
        """The file with the least memory limit on a process that is started here, and its bytes; None without a limit.

        Where instances have groups, these are below the top group. Elsewhere they stay in the group of the caller. With
        ``pid``, it is the limit on that process, as it is now.
        """
        from hvcore.host.cgroups.memory_limits import memory_limits  # noqa: PLC0415 - 1 ms (a pattern), for a start only

        left = {place for place in (self.unified, *self.by_controller.values()) if place is not None}
        groups = None if pid is None else self.files.read(f"/proc/{pid}/cgroup")
        found = memory_limits(left, self.files) if groups is None else memory_limits((), self.files, groups=groups)
        return min(found, key=lambda found: found[1], default=None)

    def problems(self, limits: GroupLimits) -> tuple[str, ...]:
        """Why this node cannot set these limits; a sentence for each."""
        return tuple(text for name in limits.controllers() for text in self._why_not(name))

    def place(self, controller: str) -> str | None:
        """The mount point of the hierarchy that has the controller."""
        return self.unified if controller in self.shared_out else self.by_controller.get(controller)

    def _why_not(self, controller: str) -> Iterator[str]:
        place = self.place(controller)
        if place is None:
            reason = "; ".join(self.refused) or "the kernel or the mounts in /sys/fs/cgroup lack it"
            yield f"no usable {controller} controller ({reason})"
        elif place == self.unified and not self._can_enable(controller):
            yield f"{place}: the {controller} controller cannot be enabled, because the top group has processes"

    def _can_enable(self, controller: str) -> bool:
        if controller in self.files.read(f"{self.unified}/cgroup.subtree_control").split():
            return True
        # Only the top group of a container has a type. With processes in it, it cannot enable controllers for others.
        in_container = bool(self.files.read(f"{self.unified}/cgroup.type"))
        return not (in_container and self.files.read(f"{self.unified}/cgroup.procs"))


def control_groups(mountinfo: bytes | None = None) -> ControlGroups:
    """The control groups of this node, from /proc/self/mountinfo (proc(5))."""
    text = Path("/proc/self/mountinfo").read_bytes() if mountinfo is None else mountinfo
    unified: str | None = None
    by_controller: dict[str, str] = {}
    refused: list[str] = []
    for line in re.findall(rb"^\S+ \S+ \S+ \S+ (\S+) .* - (cgroup2?) \S+ (\S+)$", text, re.MULTILINE):
        place, kind, options = map(os.fsdecode, line)
        if not os.access(place, os.W_OK):
            refused.append(f"{place} cannot be written to")
        elif kind == "cgroup2":
            unified = unified or place
        else:
            by_controller |= {name: place for name in options.split(",") if name not in by_controller}
    shared_out = () if unified is None else tuple(ControlFiles().read(f"{unified}/cgroup.controllers").split())
    return ControlGroups(unified=unified, shared_out=shared_out, by_controller=by_controller, refused=tuple(refused))


def group_name(run_dir: Path, instance: str) -> str:
    """The group's name: the instance's, and a hash of its run directory, for a node may have several."""
    return f"{instance}.{sha256_hex(os.fsencode(os.path.realpath(run_dir)))[:8]}"


def program_group_name(run_dir: Path, instance: str, program: str) -> str:
    """The name of the group of a program that runs for the instance, and not in its group."""
    return f"{group_name(run_dir, instance)}.{program}"
