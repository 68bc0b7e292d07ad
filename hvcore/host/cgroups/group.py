"""A control group for every instance: limits, figures, and a grip on all of its processes at once."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import DeadlineError, NodeError
from hvcore.host.cgroups.controllers import Controllers, GroupFigures, freezer_grip, unified_grip
from hvcore.host.cgroups.group_files import ControlFiles
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.host.processes.process import identify, kill_and_wait, wait_gone
from hvcore.model.limits import LIMITED, GroupLimits

__all__ = ["Group"]

_PARENT: Final = "hvcore"
_MAKING_TRIES: Final = 100
_FREEZE_S: Final = 1.0


class Group:
    """One instance's control group: a directory of the same name in every hierarchy that is of use."""

    def __init__(self, name: str, node: ControlGroups) -> None:
        self.name = name
        self._node = node
        self._files = node.files
        self._unified = None if node.unified is None else f"{node.unified}/{_PARENT}/{name}"
        wanted = LIMITED if node.unified is not None else (*LIMITED, "cpuacct", "freezer")
        found = {controller: node.place(controller) for controller in wanted}
        self._by_controller = {key: f"{top}/{_PARENT}/{name}" for key, top in found.items() if top is not None}
        self._controllers = Controllers(self._files, self._unified, self._by_controller)
        # Where its processes are looked for: in the hierarchy that can stop or end them together.
        if self._unified is not None:
            self._grip = unified_grip(self._unified)
        else:
            any_one = next(iter(self._by_controller.values()))
            self._grip = freezer_grip(self._by_controller.get("freezer", any_one))

    @property
    def directories(self) -> tuple[str, ...]:
        """Where it is, each hierarchy once."""
        unified = () if self._unified is None else (self._unified,)
        return tuple(dict.fromkeys((*unified, *self._by_controller.values())))

    @property
    def entrances(self) -> tuple[str, ...]:
        """The files that a process writes ``0`` into to put itself in."""
        return tuple(f"{directory}/cgroup.procs" for directory in self.directories)

    def create(self, limits: GroupLimits) -> None:
        """Make it with those limits; one that is there is taken over. Raises `NodeError` when it cannot be."""
        problems = self._node.problems(limits)
        if problems:
            raise NodeError(f"{self.name}: its limits cannot be set, {'; '.join(problems)}")
        try:
            for _ in range(_MAKING_TRIES):
                with suppress(FileNotFoundError):  # somebody else has just removed the parent that stood empty
                    self._make(limits)
                    break
            for path, value in self._controllers.settings(limits):
                self._files.write(path, value)
        except OSError as error:
            what = f"{self.name}: its control group cannot be made, got {error.strerror} for {error.filename}"
            raise NodeError(f"{what}; see what this node allows below /sys/fs/cgroup") from error

    def _make(self, limits: GroupLimits) -> None:
        shared = [name for name, place in self._by_controller.items() if place == self._unified]
        for directory in self.directories:
            parent = os.path.dirname(directory)
            self._files.make(parent)
            if directory == self._unified:
                _share_out(self._files, os.path.dirname(parent), shared, limits.controllers())
                _share_out(self._files, parent, shared, limits.controllers())
            self._files.make(directory)

    def enter(self, pid: int) -> None:
        """Put a process in; one that has ended is fine. Raises `NodeError`.

        It must not have children yet: they would stay where they are. The first of several hierarchies costs up to
        10 ms, for the kernel lets every cpu pass a quiet point; an instance pays that once.
        """
        for entrance in self.entrances:
            try:
                self._files.write(entrance, str(pid))
            except ProcessLookupError:
                return
            except OSError as error:
                raise NodeError(f"{entrance}: pid {pid} cannot be put in, got {error.strerror}; try again") from error

    def pids(self) -> list[int]:
        """The processes in it and in groups below it, as far as our own pid namespace has them."""
        return _pids_in(self._files, self._grip.directory)

    def holders(self) -> list[int]:
        """Processes that are in any of its directories: those of `pids`, and what was put into only one of them."""
        return _pids_in(self._files, *self.directories)

    def wait_empty(self, deadline_s: float) -> bool:
        """Wait until no process is in it, at most that long; False when one still is. One that is gone is empty."""
        deadline = Deadline(deadline_s)
        if self._grip.busy is not None:
            path, word = self._grip.busy
            if not self._files.wait(path, lambda text: word not in text, deadline):
                return False
        # v1 has no word for it, so by each process; on v2 this finds nothing any more.
        while pids := self.pids():
            for process in filter(None, map(identify, pids)):
                if not wait_gone(process, deadline.left()):
                    return False
            if deadline.left() == 0.0:
                return not self.pids()
        return True

    def kill(self, deadline_s: float) -> bool:
        """Kill every process in it, however fast it forks, and wait until they are gone; False when there was none.

        Raises `DeadlineError` when one does not go.
        """
        deadline = Deadline(deadline_s)
        if not self.pids():
            return False
        try:
            self._files.write(f"{self._grip.directory}/cgroup.kill", "1")
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
        """Stop every process in it and wait until they stand.

        Raises `DeadlineError`, and they go on, and `NodeError` when there is nothing to freeze them with.
        """
        grip = self._grip
        try:
            self._files.write(grip.freezer, grip.frozen)
        except OSError as error:
            raise NodeError(f"{grip.freezer}: cannot freeze, got {error.strerror}; is the group gone?") from error
        path, word = grip.stands
        if not self._files.wait(path, lambda text: word in text, Deadline(deadline_s)):
            self.thaw()
            raise DeadlineError(
                subject=self.name,
                waiting_for="freeze of its processes",
                waited_s=deadline_s,
                todo="one of them hangs in the kernel",
            )

    def thaw(self) -> None:
        """Let its processes go on. A group that is gone has none."""
        with suppress(FileNotFoundError):
            self._files.write(self._grip.freezer, self._grip.thawed)

    def frozen(self) -> bool:
        """Whether its processes are to stand still."""
        return self._files.read(self._grip.freezer).startswith(self._grip.frozen)

    def figures(self) -> GroupFigures | None:
        """What it uses now; None when it is gone."""
        return self._controllers.figures()

    def remove(self) -> None:
        """Remove it, with the groups that something made below it. Raises `NodeError` while a process is in it."""
        for top in self.directories:
            for directory in reversed(self._files.walk(top)):
                try:
                    self._files.remove(directory)
                except OSError as error:
                    held = ", ".join(map(str, self.holders())) or "nobody that can be seen from here"
                    what = f"{directory}: cannot be removed, got {error.strerror}, it holds pid {held}"
                    raise NodeError(f"{what}; end that and try again") from error
            with suppress(OSError):  # others are in it, or there never was one
                self._files.remove(os.path.dirname(top))


def _kill_frozen(group: Group, deadline: Deadline) -> None:
    """One by one; frozen meanwhile, so that none of them makes another."""
    with suppress(DeadlineError, NodeError):
        group.freeze(deadline.left(at_most=_FREEZE_S))
    for process in filter(None, map(identify, group.pids())):
        with suppress(DeadlineError):  # v1's freezer lets nobody die before it thaws
            kill_and_wait(process, subject=group.name, deadline_s=0.0)
    group.thaw()


def _pids_in(files: ControlFiles, *tops: str) -> list[int]:
    found = {
        int(line)
        for top in tops
        for directory in files.walk(top)
        for line in files.read(f"{directory}/cgroup.procs").split()
    }
    return sorted(found - {0})  # 0: one that our pid namespace does not have


def _share_out(files: ControlFiles, directory: str, controllers: list[str], needed: tuple[str, ...]) -> None:
    """Let the groups below have the controllers of v2: for limits those that are needed, for figures the others too."""
    enabled = files.read(f"{directory}/cgroup.subtree_control").split()
    for controller in controllers:
        if controller in enabled:
            continue
        try:
            files.write(f"{directory}/cgroup.subtree_control", f"+{controller}")
        except OSError:
            if controller in needed:
                raise
