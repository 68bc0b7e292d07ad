"""The memory limits that the kernel sets on a process through the control groups above it. Reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.host.cgroups.group_files import ControlFiles

__all__ = ["memory_limits"]

_MOUNT: Final = re.compile(rb"^\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)$", re.MULTILINE)
_LIMITS: Final = {"cgroup2": "memory.max", "cgroup": "memory.limit_in_bytes"}
_NO_LIMIT: Final = 1 << 62  # v1 gives the largest number of pages for none


def memory_limits(
    left: Collection[str],
    files: ControlFiles,
    mountinfo: bytes | None = None,
    groups: str | None = None,
) -> Iterator[tuple[str, int]]:
    """``(file, bytes)`` of each limit on the group of this process and the groups above it, as far as they can be seen.

    In the hierarchies ``left``, by mount point, an instance does not stay in the group of its caller: there only the limit
    of the top group counts. A container has one there.
    """
    mounts = Path("/proc/self/mountinfo").read_bytes() if mountinfo is None else mountinfo
    lines = (Path("/proc/self/cgroup").read_text() if groups is None else groups).splitlines()
    places = {
        controllers: path for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1)
    }
    for root, top, kind, options in (map(os.fsdecode, found) for found in _MOUNT.findall(mounts)):
        if kind == "cgroup" and "memory" not in options.split(","):
            continue
        path = next((path for names, path in places.items() if _is_of(names, kind)), "/")
        for directory in _from_top(top, "" if top in left else _below(root, path)):
            file = f"{directory}/{_LIMITS[kind]}"
            text = ""
            with suppress(OSError):  # a container may hide it
                text = files.read(file).strip()
            if text.isdecimal() and int(text) < _NO_LIMIT:
                yield file, int(text)


def _is_of(controllers: str, kind: str) -> bool:
    return controllers == "" if kind == "cgroup2" else "memory" in controllers.split(",")


def _below(root: str, path: str) -> str:
    """The path of a group below the one that is mounted; empty for one that is not below it."""
    if path.startswith("/.."):
        return ""
    if root == "/":
        return path.strip("/")
    return path.removeprefix(root).strip("/") if f"{path}/".startswith(f"{root}/") else ""


def _from_top(top: str, below: str) -> Iterator[str]:
    yield top
    for name in filter(None, below.split("/")):
        top = f"{top}/{name}"
        yield top
