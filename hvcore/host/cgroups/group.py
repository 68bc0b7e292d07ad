"""The control group of an instance: its limits and figures, and what acts on all of its processes at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import DeadlineError, NodeError
from hvcore.host.cgroups.controllers import Controllers, GroupFigures, v1_freezer, v2_freezer
from hvcore.host.cgroups.group_files import ControlFiles
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.host.processes.process import identify, kill_and_wait, wait_gone
from hvcore.model.limits import LIMITED, GroupLimits

__all__ = ["Group", "expect_entry"]

_PARENT: Final = "hvcore"
_CREATE_TRIES: Final = 100
_FREEZE_S: Final = 1.0


class Group:
    """One instance's control group: a directory of the same name in every hierarchy that instances use."""

    def __init__(self, name: str, node: ControlGroups) -> None:
        self.name = name
        self._node = node
        self.files = node.files
        self.unified = None if node.unified is None else f"{node.unified}/{_PARENT}/{name}"
        wanted = LIMITED if node.unified is not None else (*LIMITED, "cpuacct", "freezer")
        found = {controller: node.place(controller) for controller in wanted}
        self._by_controller = {key: f"{top}/{_PARENT}/{name}" for key, top in found.items() if top is not None}
        used = {self._node.unified, *(found.values())}
        self._others = {name: top for name, top in node.by_controller.items() if top not in used}
        self._controllers = Controllers(files=self.files, unified=self.unified, places=self._by_controller)
        # The hierarchy that can freeze or kill all processes together is also where they are looked for.
        if self.unified is not None:
            self._freezer = v2_freezer(self.unified)
        else:
            any_one = next(iter(self._by_controller.values()))
            self._freezer = v1_freezer(self._by_controller.get("freezer", any_one))

    @property
    def directories(self) -> tuple[str, ...]:
        """The group's directory in each hierarchy, without duplicates."""
        unified = () if self.unified is None else (self.unified,)
        return tuple(dict.fromkeys((*unified, *self._by_controller.values())))

    @property
    def entrances(self) -> tuple[str, ...]:
        """The files to which a process writes ``0`` to enter the group."""
        return tuple(f"{directory}/cgroup.procs" for directory in self.directories)

    def create(self, limits: GroupLimits) -> None:
        """Make the group with these limits, or set them on an existing one. Raises `NodeError`."""
        problems = self._node.problems(limits)
        if problems:
            raise NodeError(f"{self.name}: the limits cannot be set, {'; '.join(problems)}")
        try:
            for _ in range(_CREATE_TRIES):
                with suppress(FileNotFoundError):  # another process has just removed the empty parent
                    self._make(limits)
                    break
            for path, value in self._controllers.settings(limits):
                self.files.write(path, value)
        except OSError as error:
            what = f"{self.name}: its control group cannot be made, got {error.strerror} for {error.filename}"
            raise NodeError(f"{what}; check that this process may create groups in /sys/fs/cgroup") from error

    def _make(self, limits: GroupLimits) -> None:
        controllers = [name for name, place in self._by_controller.items() if place == self.unified]
        for directory in self.directories:
            parent = os.path.dirname(directory)
            self.files.make(parent)
            if directory == self.unified:
                _enable(self.files, os.path.dirname(parent), controllers, limits.controllers())
                _enable(self.files, parent, controllers, limits.controllers())
            self.files.make(directory)

    def enter(self, pid: int) -> None:
        """Move a process into the group; one that has exited is fine. Raises `NodeError`.

        In hierarchies of v1 without a group for the instance (cpuset, blkio, systemd's own) the process moves to the top
        group, so that nothing of the caller's groups stays. The process must not have children yet: they would stay
        outside. The first of several hierarchies costs up to 10 ms, less after `expect_entry`, because the kernel waits for
        every CPU; an instance pays that once.
        """
        for entrance in (*self.entrances, *_left_by(self.files, self._others, pid)):
            try:
                self.files.write(entrance, str(pid))
            except ProcessLookupError:
                return
            except OSError as error:
                raise NodeError(f"{entrance}: pid {pid} cannot be added, got {error.strerror}; try again") from error

    def pids(self) -> list[int]:
        """The processes in the group and in groups below it that our pid namespace can see."""
        return _pids_in(self.files, self._freezer.directory)

    def holders(self) -> list[int]:
        """Processes in any of the directories: those of `pids`, and those that are in only one hierarchy."""
        return _pids_in(self.files, *self.directories)

    def wait_empty(self, deadline_s: float) -> bool:
        """Wait until the group has no process, at most ``deadline_s`` seconds. A missing group is empty."""
        deadline = Deadline(deadline_s)
        if self._freezer.busy is not None:
            path, word = self._freezer.busy
            if not self.files.wait(path, lambda text: word not in text, deadline):
                return False
        # v1 does not report it, so wait for each process; on v2 none is left here.
        while pids := self.pids():
            if not all(wait_gone(process, deadline.left()) for process in filter(None, map(identify, pids))):
                return False
            if deadline.left() == 0.0:
                return not self.pids()
        return True

    def kill(self, deadline_s: float) -> bool:
        """Kill every process in the group, however fast they fork, and wait for their end. False if there was none.

        Raises `DeadlineError` if one does not exit.
        """
        deadline = Deadline(deadline_s)
        if not self.pids():
            return False
        try:
            self.files.write(f"{self._freezer.directory}/cgroup.kill", "1")
        except FileNotFoundError:  # v1, and v2 before Linux 5.14
            _kill_frozen(self, deadline)
        if not self.wait_empty(deadline.left()):
            held = ", ".join(map(str, self.pids()))
            raise DeadlineError(
                subject=self.name,
                waiting_for=f"end of pid {held} after SIGKILL",
                waited_s=deadline_s,
                todo="it hangs in the kernel (a dead disk?) and may still write",
            )
        return True

    def freeze(self, deadline_s: float) -> None:
        """Freeze every process in the group and wait until all are frozen.

        Raises `DeadlineError`, after which all are thawed, and `NodeError` on a node that cannot freeze.
        """
        freezer = self._freezer
        try:
            self.files.write(freezer.file, freezer.frozen)
        except OSError as error:
            raise NodeError(
                f"{freezer.file}: cannot freeze, got {error.strerror}; check that the group exists"
            ) from error
        path, word = freezer.all_frozen
        if not self.files.wait(path, lambda text: word in text, Deadline(deadline_s)):
            self.thaw()
            raise DeadlineError(
                subject=self.name,
                waiting_for="freeze of its processes",
                waited_s=deadline_s,
                todo="one of them hangs in the kernel",
            )

    def thaw(self) -> None:
        """Let the processes continue. A missing group is fine."""
        with suppress(FileNotFoundError):
            self.files.write(self._freezer.file, self._freezer.thawed)

    def frozen(self) -> bool:
        """Whether the group is frozen, or being frozen."""
        return self.files.read(self._freezer.file).startswith(self._freezer.frozen)

    def figures(self) -> GroupFigures | None:
        """What the group uses now; None if it does not exist."""
        return self._controllers.figures()

    def remove(self) -> None:
        """Remove the group and the groups below it. Raises `NodeError` while it has a process."""
        for top in self.directories:
            for directory in reversed(self.files.walk(top)):
                try:
                    self.files.remove(directory)
                except OSError as error:
                    pids = ", ".join(map(str, self.holders()))
                    held = f"pid {pids}" if pids else "a process that cannot be seen from here"
                    what = f"{directory}: cannot be removed, got {error.strerror}, used by {held}"
                    raise NodeError(f"{what}; end that process and try again") from error
            with suppress(OSError):  # it has other groups, or does not exist
                self.files.remove(os.path.dirname(top))


def expect_entry(group: Group) -> Callable[[], None]:
    """Begin the kernel's wait of `Group.enter` in another thread; the returned call waits for the end of that thread.

    The first move waits until every CPU has passed a point of rest (an RCU grace period). A move within such a period
    after it does not wait. cgroup v2 moves a single thread only within one group with threads, so it refuses to add ours
    to this group, but only after that wait. Without v2 there is nothing to begin: v1 would move the thread.
    """
    files, unified = group.files, group.unified
    if unified is None:
        return lambda: None

    def refused() -> None:
        with suppress(OSError):
            files.write(f"{unified}/cgroup.threads", str(threading.get_native_id()))

    thread = threading.Thread(target=refused, name="expect entry", daemon=True)
    thread.start()
    return thread.join


def _left_by(files: ControlFiles, others: dict[str, str], pid: int) -> Iterator[str]:
    """The entrances of the top groups of ``others``, mounts by controller, where the process is elsewhere: cgroups(7)."""
    for line in files.read(f"/proc/{pid}/cgroup").splitlines() if others else ():
        _, names, path = line.split(":", 2)
        tops = {others[name] for name in names.split(",") if name in others}
        if path != "/":
            yield from (f"{top}/cgroup.procs" for top in tops)


def _pids_in(files: ControlFiles, *tops: str) -> list[int]:
    directories = (directory for top in tops for directory in files.walk(top))
    found = {int(line) for directory in directories for line in files.read(f"{directory}/cgroup.procs").split()}
    return sorted(found - {0})  # 0: a process that our pid namespace does not have


def _kill_frozen(group: Group, deadline: Deadline) -> None:
    """Kill the processes one by one, frozen meanwhile, so that none of them forks."""
    with suppress(DeadlineError, NodeError):
        group.freeze(deadline.left(at_most=_FREEZE_S))
    for process in filter(None, map(identify, group.pids())):
        with suppress(DeadlineError):  # with v1's freezer no process exits before the thaw
            kill_and_wait(process, subject=group.name, deadline_s=0.0)
    group.thaw()


def _enable(files: ControlFiles, directory: str, controllers: list[str], needed: tuple[str, ...]) -> None:
    """Enable v2's controllers for the groups below; only the ``needed`` ones must work, the others give figures."""
    enabled = files.read(f"{directory}/cgroup.subtree_control").split()
    for controller in controllers:
        if controller not in enabled:
            try:
                files.write(f"{directory}/cgroup.subtree_control", f"+{controller}")
            except OSError:
                if controller in needed:
                    raise
