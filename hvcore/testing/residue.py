"""What is left of instances on a node, seen from outside: as a person would look, and by a scope of its own.

Only what belongs to the scope counts (a scratch directory, a range of uids, a prefix of names), so that whatever else
goes on on the node neither fails a check nor is touched by one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hvcore.host.mount_table import mounts_at_or_below
from hvcore.host.processes.process import alive, identify
from hvcore.model.record import ProcessId

__all__ = ["Scope", "children_of", "held_by_us"]

_KEPT: Final = ("cache", "damaged", "locks")
_TEMPORARY: Final = ("/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - looked at, not written to


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is ours: everything below ``directory``, uids of the pool, things with the ``prefix`` in their names."""

    directory: Path
    run_dir: Path
    uids: range
    prefix: str

    def processes(self) -> list[ProcessId]:
        """Processes that mention the directory in command, environment or descriptors, or have a uid of the pool."""
        return [process for process, _ in self._processes()]

    def _processes(self) -> Iterator[tuple[ProcessId, str]]:
        for name in os.listdir("/proc"):
            if not name.isdecimal() or int(name) == os.getpid():
                continue
            with suppress(OSError):
                if self._owns(name):
                    process = identify(int(name))
                    command = Path("/proc", name, "comm").read_text().strip()
                    if process is not None and alive(process):  # else a zombie that nobody has collected yet
                        yield process, f"process {name} ({command})"

    def _owns(self, pid: str) -> bool:
        if os.stat(f"/proc/{pid}").st_uid in self.uids:
            return True
        place = os.fsencode(self.directory)
        if any(place in Path("/proc", pid, name).read_bytes() for name in ("cmdline", "environ")):
            return True
        links = (f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))
        return any(_target(link).startswith(f"{self.directory}/") for link in links)

    def files(self) -> list[str]:
        """Files of the run directory that belong to an instance, and those with the prefix in temporary directories."""
        found = []
        for folder, names, files in os.walk(self.run_dir):
            if Path(folder) == self.run_dir:
                names[:] = [name for name in names if name not in _KEPT]
            at_top = Path(folder) == self.run_dir / "instances"
            found += [f"file {folder}/{name}" for name in (*files, *(names if at_top else ())) if name != ".disks"]
            found += [f"file {folder}/{name}" for name in names if os.path.islink(f"{folder}/{name}")]
        for folder in _TEMPORARY:
            with suppress(OSError):
                mine = (name for name in os.listdir(folder) if self.prefix in name)
                found += [f"file {folder}/{name}" for name in mine if f"{folder}/{name}" != str(self.directory)]
        return found

    def kernel_things(self) -> list[str]:
        """Mounts, loop devices, network links and cgroups of the scope."""
        found = [f"mount {mount.point}" for mount in mounts_at_or_below(str(self.directory.resolve()))]
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):
                if path.read_text().startswith(f"{self.directory}/"):
                    found.append(f"loop device {path.parts[3]}")
        for path in Path("/sys/class/net").iterdir():
            with suppress(OSError):
                if self.prefix in path.name or self.prefix in (path / "ifalias").read_text():
                    found.append(f"network link {path.name}")
        for folder, names, _ in os.walk("/sys/fs/cgroup"):
            found += [f"cgroup {folder}/{name}" for name in names if self.prefix in name]
        return found

    def leftovers(self, started: Iterable[ProcessId] = ()) -> list[str]:
        """Everything of the scope that is still there, in words; ``started`` are processes known to be of it."""
        found = [words for _, words in self._processes()]
        found += [f"process {process.pid}" for process in started if alive(process)]
        return [*dict.fromkeys(found), *self.files(), *self.kernel_things()]


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def children_of(pid: int) -> list[ProcessId]:
    """The process and everything that descends from it, the parents first."""
    found = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        process = identify(one)
        if process is None:
            continue
        found.append(process)
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                waiting += map(int, Path("/proc", str(one), "task", task, "children").read_text().split())
    return found


def held_by_us() -> set[str]:
    """Our own descriptors, threads and children, in words."""
    found = {f"thread {thread.name}" for thread in threading.enumerate()}
    for fd in os.listdir("/proc/self/fd"):
        target = _target(f"/proc/self/fd/{fd}")
        if target and not target.startswith("/proc/"):
            found.add(f"descriptor {fd} of {target}")
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            found |= {f"child {pid}" for pid in Path("/proc/self/task", task, "children").read_text().split()}
    return found
