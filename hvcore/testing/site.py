"""A node in a scratch directory with the driver on it, and everything that instances leave there, seen from outside.

Only the directory, the uids and the prefix of names of the site count. Other processes and files on this machine do not
affect a check, and no check changes them.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from hvcore.api.driver_handle import DriverHandle
from hvcore.api.node import Node
from hvcore.errors import HvError
from hvcore.frozen import dataclass
from hvcore.host.environment import Host, default_uid_pool
from hvcore.host.files import remove_tree
from hvcore.host.launching.launch import reap
from hvcore.host.mount_table import mounts_at_or_below, unmount_below
from hvcore.host.processes.process import alive, identify, kill_and_wait
from hvcore.host.processes.search import pids
from hvcore.model.record import ProcessId
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.plugins.loader import load
from hvcore.testing.subject import Subject

__all__ = ["Scope", "Site", "children_of", "held_by_us"]

_NUMBERS: Final = itertools.count()
_UIDS_EACH: Final = 64
_FIRST_UID: Final = 1_870_000_000  # beside the default pool: instances of the real node never have these uids
_KILL_S: Final = 5.0
_KEPT: Final = ("cache", "damaged", "locks")
_TEMPORARY: Final = ("/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - searched, not written to


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The site's own things: everything below ``directory``, the ``uids``, and names that contain the ``prefix``."""

    directory: Path
    run_dir: Path
    uids: range
    prefix: str

    def processes(self) -> list[ProcessId]:
        """Processes that mention the directory in command, environment or descriptors, or run as one of the uids."""
        return [process for process, _ in self._processes()]

    def _processes(self) -> Iterator[tuple[ProcessId, str]]:
        for pid in pids():
            if pid == os.getpid():
                continue
            with suppress(OSError):
                if self._owns(pid):
                    process, command = identify(pid), Path(f"/proc/{pid}/comm").read_text().strip()
                    if process is not None and alive(process):  # not a zombie that its parent has yet to collect
                        yield process, f"process {pid} ({command})"

    def _owns(self, pid: int) -> bool:
        if os.stat(f"/proc/{pid}").st_uid in self.uids:
            return True
        place = os.fsencode(self.directory)
        if any(place in Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")):
            return True
        links = (f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd"))
        return any(_target(link).startswith(f"{self.directory}/") for link in links)

    def files(self) -> list[str]:
        """Files of the run directory that belong to an instance, and files with the prefix in temporary directories."""
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

    def kernel_objects(self) -> list[str]:
        """Mounts, loop devices, network links and cgroups of the site."""
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
        """Everything of the site that still exists, in words. ``started`` are processes known to belong to it."""
        found = [words for _, words in self._processes()]
        found += [f"process {process.pid}" for process in started if alive(process)]
        return [*dict.fromkeys(found), *self.files(), *self.kernel_objects()]


class Site:
    """A node with a run directory, uids and a prefix of names that no other node on this machine uses."""

    def __init__(self, subject: Subject, directory: Path, *, thorough: bool = False) -> None:
        self.subject = subject
        self.directory = directory
        self.thorough = thorough
        self.run_dir = directory / "run"
        number = next(_NUMBERS)
        first = _FIRST_UID + (os.getpid() * 1000 + number * _UIDS_EACH) % 9_900_000
        pool = default_uid_pool()
        self.uids = range(first, first + _UIDS_EACH) if len(pool) > 4096 else pool  # a small pool is used whole
        self.prefix = f"kit{os.getpid()}-{number}"

    @cached_property
    def loaded(self) -> LoadedDriver:
        """The driver with its hooks and its schema."""
        return load(self.subject.driver)

    @cached_property
    def node(self) -> Node:
        """The node."""
        return self.another_node()

    @property
    def handle(self) -> DriverHandle:
        """The driver on the node."""
        return self.node.driver(self.subject.driver)

    @property
    def host(self) -> Host:
        """The node, as drivers see it."""
        return Host(run_dir=self.run_dir, privileged=os.geteuid() == 0, uid_pool=self.uids)

    @property
    def scope(self) -> Scope:
        """The things that count as leftovers of this site."""
        pool = self.uids if self.uids.start >= _FIRST_UID else range(0)
        return Scope(directory=self.directory, run_dir=self.run_dir, uids=pool, prefix=self.prefix)

    def another_node(self) -> Node:
        """The same node as another program sees it: nothing is cached in memory."""
        config, state = self.directory / "config", self.directory / "state"
        return Node(self.run_dir, config_dir=config, state_dir=state, uid_pool=self.uids)

    def name(self, label: str = "web1") -> str:
        """The name of the instance that a check calls ``label``."""
        return f"{self.prefix}-{label}"

    def clear(self) -> None:
        """Stop and remove everything of the site that is left, even if the driver is broken."""
        with suppress(Exception):  # if the driver is too broken to list its instances, they are killed next
            for info in self.node.instances():
                with suppress(Exception):
                    self.node.stop(info.name, force=True, deadline_s=10)
        for process in self.scope.processes():
            with suppress(HvError, OSError):
                kill_and_wait(process, subject=str(process.pid), deadline_s=_KILL_S)
        reap()
        with suppress(HvError, OSError):
            unmount_below(str(self.directory.resolve()))
        with suppress(HvError, OSError):
            remove_tree(self.directory)  # refuses if something is still mounted: that may hold the node's own files


def _target(link: str) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def children_of(pid: int) -> list[ProcessId]:
    """The process and all its descendants, parents first."""
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
    """Descriptors, threads and children of this process, in words."""
    found = {f"thread {thread.name}" for thread in threading.enumerate()}
    for fd in os.listdir("/proc/self/fd"):
        target = _target(f"/proc/self/fd/{fd}")
        if target and not target.startswith("/proc/"):
            found.add(f"descriptor {fd} of {target}")
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            found |= {f"child {pid}" for pid in Path("/proc/self/task", task, "children").read_text().split()}
    return found
