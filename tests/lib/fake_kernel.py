"""cgroup v2 of a kernel with all controllers, in memory, for nodes that lack them. The processes are real."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hvcore.deadline import Deadline
from hvcore.host.cgroups.group_files import ControlFiles
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.host.processes.process import wait_readable

TOP = "/fake"
CONTROLLERS = ("memory", "cpu", "pids")
# As in cgroup-v2.rst: the file, its first contents, and the controller that it belongs to.
FILES = {
    "memory.max": ("max", "memory"),
    "memory.swap.max": ("max", "memory"),
    "memory.current": ("1048576", "memory"),
    "memory.events": ("low 0\noom 0\noom_kill 0", "memory"),
    "cpu.max": ("max 100000", "cpu"),
    "pids.max": ("max", "pids"),
}


@dataclass
class FakeGroup:
    pids: set[int] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    frozen: bool = False
    settings: dict[str, str] = field(default_factory=dict)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] not in b"ZX"
    except OSError:
        return False


class FakeKernel(ControlFiles):
    """Groups in memory. Freezing sends SIGSTOP; ``has_kill`` means Linux 5.14; ``wrote`` has everything that was written."""

    def __init__(self, *, has_kill: bool = True) -> None:
        self.groups: dict[str, FakeGroup] = {TOP: FakeGroup()}
        self.has_kill = has_kill
        self.wrote: dict[str, str] = {}

    def node(self) -> ControlGroups:
        return ControlGroups(unified=TOP, shared_out=CONTROLLERS, files=self)

    def _has(self, directory: str, controller: str) -> bool:
        return directory == TOP or controller in self.groups[os.path.dirname(directory)].given

    def _alive(self, directory: str) -> set[int]:
        return {pid for pid in self.groups[directory].pids if lives(pid)}

    def _text(self, path: str) -> str | None:
        directory, name = os.path.split(path)
        group = self.groups.get(directory)
        if group is None:
            return None
        populated = any(self._alive(below) for below in self.walk(directory))
        plain = {
            "cgroup.procs": "".join(f"{pid}\n" for pid in sorted(self._alive(directory))),
            "cgroup.events": f"populated {int(populated)}\nfrozen {int(group.frozen)}\n",
            "cgroup.freeze": f"{int(group.frozen)}\n",
            "cgroup.subtree_control": " ".join(sorted(group.given)),
            "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
        }
        if name in plain:
            return plain[name]
        if name == "pids.current" and self._has(directory, "pids"):
            return f"{len(self._alive(directory))}\n"
        if name in FILES and self._has(directory, FILES[name][1]):
            return group.settings.get(name, FILES[name][0]) + "\n"
        return None

    def read(self, path: str) -> str:
        return self._text(path) or ""

    def write(self, path: str, text: str) -> None:
        directory, name = os.path.split(path)
        group = self.groups.get(directory)
        kill = name == "cgroup.kill" and self.has_kill
        if group is None or (self._text(path) is None and not kill):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        self.wrote[path] = text
        if kill:
            for pid in {pid for below in self.walk(directory) for pid in self._alive(below)}:
                os.kill(pid, signal.SIGKILL)
        elif name == "cgroup.procs":
            if not lives(int(text)):
                raise ProcessLookupError(errno.ESRCH, "No such process", path)
            for other in self.groups.values():
                other.pids.discard(int(text))
            group.pids.add(int(text))
        elif name == "cgroup.freeze":
            group.frozen = text == "1"
            for pid in self._alive(directory):
                os.kill(pid, signal.SIGSTOP if group.frozen else signal.SIGCONT)
        elif name == "cgroup.subtree_control":
            group.given.add(text.removeprefix("+"))
        else:
            group.settings[name] = text

    def make(self, directory: str) -> None:
        if os.path.dirname(directory) not in self.groups:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", directory)
        self.groups.setdefault(directory, FakeGroup())

    def remove(self, directory: str) -> None:
        if directory not in self.groups:
            return
        if self.walk(directory) != [directory] or self._alive(directory):
            raise OSError(errno.EBUSY, "Device or resource busy", directory)
        del self.groups[directory]

    def walk(self, top: str) -> list[str]:
        return sorted(name for name in self.groups if name == top or name.startswith(f"{top}/"))

    def wait(self, path: str, wanted: Callable[[str], bool], deadline: Deadline) -> bool:
        while not wanted(self._text(path) or ""):
            pidfds = list(self._pidfds(os.path.dirname(path)))
            for fd in pidfds:
                wait_readable(fd, deadline.left())
                os.close(fd)
            if deadline.left() == 0.0:
                return wanted(self._text(path) or "")
        return True

    def _pidfds(self, directory: str) -> Iterator[int]:
        for pid in self._alive(directory):
            try:
                yield os.pidfd_open(pid)
            except ProcessLookupError:
                continue
