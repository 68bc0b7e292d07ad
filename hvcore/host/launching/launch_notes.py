"""Notes of the instances for which processes were launched, outside of their run directories. Only for root.

A start has to find out whether its instance runs already, even if the run directory was wiped. The marks in /proc prove
that, but finding them takes a scan of all processes. So a note is made before each launch and removed at the release of
the instance. Without a note, the start does not scan.

A program can clear its environment. Its processes are then found by the note, and by their control group or their root.

A note is a symbolic link: its name is a short hash of the run directory and one of the instance's directory, its
target the start that made it and the directory, for people. It is removed by that start, or by a scan that found no
process. Processes of an older hvcore have no note. So notes count only after a scan in this boot found no process
without one: the link ``complete`` records that. Decision 18 has the reasons.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.files import private_dir
from hvcore.host.processes.launched import marked_for, marks
from hvcore.host.processes.process import boot_id
from hvcore.host.processes.search import rooted
from hvcore.model.names import sha256_hex

__all__ = [
    "LaunchNotes",
    "forget_launch",
    "launched_for",
    "launched_without_state",
    "note_launch",
    "unmarked_for",
]

_PLACE: Final = Path("/run/hvcore-launched")
_COMPLETE: Final = "complete"


def launched_for(directory: Path) -> list[int]:
    """Pids of our processes that were launched for the instance with that directory, which may be missing."""
    return LaunchNotes().launched(directory) if os.geteuid() == 0 else marked_for(directory)


def note_launch(directory: Path, start: str) -> None:
    """Note that the start ``start`` is about to launch a process for that instance. Raises `NodeError`."""
    if os.geteuid() == 0:
        LaunchNotes().add(directory, start)


def forget_launch(directory: Path, start: str) -> None:
    """Remove the note of a start whose processes have all exited."""
    if os.geteuid() == 0:
        LaunchNotes().remove(directory, start)


def launched_without_state(instances: Path) -> list[str]:
    """Names of instances that run and have no directory below ``instances``, the directories of a run directory.

    For other users than root, who have no notes, only when ``instances`` itself is missing: /proc has to be scanned.
    """
    if os.geteuid() == 0:
        return LaunchNotes().without_state(instances)
    return [] if instances.is_dir() else _names_in(instances, marks())


def unmarked_for(directory: Path) -> list[int]:
    """Pids of the processes of the instance with that directory that need no mark: in its control group, or with its root.

    A program of an instance may clear its environment, and the mark with it. So does each daemon of a plain chroot(8).
    """
    from hvcore.host.cgroups.group import Group  # noqa: PLC0415 - 3.7 ms (control groups), which a list does not need
    from hvcore.host.cgroups.hierarchy import control_groups, group_name  # noqa: PLC0415 - the same

    node, run_dir = control_groups(), directory.parent.parent
    grouped = Group(group_name(run_dir, directory.name), node).pids() if node.usable else []
    return sorted({*grouped, *(process.pid for process in rooted(directory))})


class LaunchNotes:
    """The notes of a node, in a directory that only root can write to.

    ``scan`` finds all marked processes in /proc, ``unmarked`` those of one instance that can be found in other ways.
    """

    def __init__(
        self,
        place: Path = _PLACE,
        scan: Callable[[], Mapping[int, str]] = marks,
        unmarked: Callable[[Path], list[int]] = unmarked_for,
    ) -> None:
        self._place = place
        self._scan = scan
        self._unmarked = unmarked

    def add(self, directory: Path, start: str) -> None:
        """Like `note_launch`. A note of an earlier start stays.

        No error if the directory of the notes cannot be made: then each start scans /proc.
        """
        try:
            private_dir(self._place)
            with suppress(FileExistsError):
                os.symlink(f"{start} {directory}", self._note(directory))
        except (NodeError, OSError) as error:
            if os.path.lexists(self._place):
                what = f"{self._place}: cannot be written to, got {getattr(error, 'strerror', None) or error}"
                raise NodeError(f"{what}; make it a directory that only root can write to, with free space") from error

    def remove(self, directory: Path, start: str) -> None:
        """Like `forget_launch`. A note of another start stays."""
        note = self._note(directory)
        if _target(note) == f"{start} {directory}":
            with suppress(OSError):  # a note that stays costs the next start a scan of /proc
                os.unlink(note)

    def launched(self, directory: Path) -> list[int]:
        """Pids of living processes that were launched for the instance with that directory."""
        note = self._note(directory)
        complete = self._complete()
        if complete and not self._is_noted(str(directory)):
            return []
        running = self._scan()
        marked = (pid for pid, path in running.items() if path == str(directory))
        found = sorted({*marked, *self._unmarked(directory)})
        for one in () if found else (note, f"{self._place}/{_old_name(str(directory))}"):
            with suppress(OSError):
                os.unlink(one)
        if not complete and all(map(self._is_noted, set(running.values()))):
            self._set_complete()
        return found

    def without_state(self, instances: Path) -> list[str]:
        """Names of instances that run and have no directory below ``instances``. Without a note, none is searched for."""
        group = _group(str(instances))
        try:
            notes = [name for name in os.listdir(self._place) if name.startswith(group)]
        except OSError:
            return []
        noted = ((_target(f"{self._place}/{note}") or "").partition(" ")[2] for note in notes)
        missing = [path for path in noted if os.path.dirname(path) == str(instances) and not os.path.lexists(path)]
        if not missing:
            return []
        unmarked = {Path(path).name for path in missing if self._unmarked(Path(path))}
        return sorted(unmarked.union(_names_in(instances, self._scan())))

    def _is_noted(self, directory: str) -> bool:
        name = _name(directory)
        return any(os.path.lexists(f"{self._place}/{one}") for one in (name, _old_name(directory)))

    def _note(self, directory: Path) -> str:
        return f"{self._place}/{_name(str(directory))}"

    def _complete(self) -> bool:
        with suppress(NodeError):
            return _target(f"{self._place}/{_COMPLETE}") == _scope() and bool(private_dir(self._place))
        return False

    def _set_complete(self) -> None:
        with suppress(OSError, NodeError):  # the next start tries again
            path = private_dir(self._place) / _COMPLETE
            path.unlink(missing_ok=True)
            self._remove_stale()
            path.symlink_to(_scope())

    def _remove_stale(self) -> None:
        """Remove the notes of instances with neither a directory nor a process: once in a boot, or after an upgrade."""
        names = [name for name in os.listdir(self._place) if name != _COMPLETE]
        noted = {name: (_target(f"{self._place}/{name}") or "").partition(" ")[2] for name in names}
        missing = [name for name, path in noted.items() if not os.path.exists(path)]
        # Scan after the check for directories: an instance launched since has both a directory and processes.
        running = {name(path) for path in self._scan().values() for name in (_name, _old_name)} if missing else set()
        for name in set(missing) - running:
            if not self._unmarked(Path(noted[name])):
                os.unlink(f"{self._place}/{name}")


def _scope() -> str:
    """The boot and the pid namespace in which a scan finds processes."""
    return f"{boot_id()} {os.readlink('/proc/self/ns/pid')}"


def _names_in(instances: Path, running: Mapping[int, str]) -> list[str]:
    found = {Path(path).name for path in running.values() if os.path.dirname(path) == str(instances)}
    return sorted(name for name in found if not os.path.lexists(instances / name))


def _name(directory: str) -> str:
    return f"{_group(os.path.dirname(directory))}{_old_name(directory)[:32]}"


def _old_name(directory: str) -> str:
    """The name of a note by an hvcore whose notes did not begin with the run directory."""
    return sha256_hex(os.fsencode(directory))[:40]


def _group(instances: str) -> str:
    return f"{zlib.crc32(os.fsencode(instances)):08x}"


def _target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
