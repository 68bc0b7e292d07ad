"""For which instances something was launched, noted outside of their run directories. Only for root.

A start has to know whether its instance runs already when the run directory was wiped and tells nothing. The marks in
/proc say so for certain, and finding one takes a look at every process of the node. So before anything is launched for
an instance a note of it is made, and the note is removed when the instance has been released. Without a note nothing
of it can run, and /proc is not looked through.

A note is a symbolic link, made in one step: its name is a hash of the instance's directory, its target says which start
made it, and the directory for people to read. Only that start removes it, or a look through /proc that found nothing.
What an older hvcore has launched has no note. So the notes count from the moment on at which a look through /proc has
found no process without one, in this boot: the link ``complete`` says that. Decision 18 says why not otherwise.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.files import private_dir
from hvcore.host.processes.launched import marked_for, marks
from hvcore.host.processes.process import boot_id

__all__ = ["LaunchNotes", "forget_launch", "launched_for", "note_launch"]

_PLACE: Final = Path("/run/hvcore-launched")
_COMPLETE: Final = "complete"


def launched_for(directory: Path) -> list[int]:
    """Pids of our own processes that were launched for the instance with that directory, though it may be gone."""
    return LaunchNotes().launched(directory) if os.geteuid() == 0 else marked_for(directory)


def note_launch(directory: Path, start: str) -> None:
    """Note that something is about to be launched for the instance with that directory; ``start`` tells this start apart.

    Raises `NodeError` when that cannot be done.
    """
    if os.geteuid() == 0:
        LaunchNotes().add(directory, start)


def forget_launch(directory: Path, start: str) -> None:
    """Everything that this start has launched has ended."""
    if os.geteuid() == 0:
        LaunchNotes().remove(directory, start)


class LaunchNotes:
    """The notes of a node, in a directory that only root can write to. ``look`` finds all marked processes in /proc."""

    def __init__(self, place: Path = _PLACE, look: Callable[[], Mapping[int, str]] = marks) -> None:
        self._place = place
        self._look = look

    def add(self, directory: Path, start: str) -> None:
        """As `note_launch`. A note of an earlier start stays as it is.

        Raises `NodeError`, but where there can be no notes at all: there each start looks into /proc.
        """
        try:
            private_dir(self._place)
            with suppress(FileExistsError):
                os.symlink(f"{start} {directory}", self._note(directory))
        except (NodeError, OSError) as error:
            if os.path.lexists(self._place):
                what = f"{self._place}: cannot note what is launched, got {getattr(error, 'strerror', None) or error}"
                raise NodeError(f"{what}; make it a directory that only root can write to, with room") from error

    def remove(self, directory: Path, start: str) -> None:
        """As `forget_launch`. A note of another start stays."""
        note = self._note(directory)
        if _target(note) == f"{start} {directory}":
            with suppress(OSError):  # one that stays costs the next start a look into /proc
                os.unlink(note)

    def launched(self, directory: Path) -> list[int]:
        """Pids of what was launched for the instance with that directory and has not ended."""
        note = self._note(directory)
        complete = self._complete()
        if complete and not os.path.lexists(note):
            return []
        running = self._look()
        found = sorted(pid for pid, path in running.items() if path == str(directory))
        if not found:
            with suppress(OSError):
                os.unlink(note)
        if not complete and all(os.path.lexists(f"{self._place}/{_name(path)}") for path in set(running.values())):
            self._count_from_now_on()
        return found

    def _note(self, directory: Path) -> str:
        return f"{self._place}/{_name(str(directory))}"

    def _complete(self) -> bool:
        return _target(f"{self._place}/{_COMPLETE}") == _counted_by() and _usable(self._place)

    def _count_from_now_on(self) -> None:
        with suppress(OSError, NodeError):  # then the next one tries
            path = private_dir(self._place) / _COMPLETE
            path.unlink(missing_ok=True)
            self._clear_away()
            path.symlink_to(_counted_by())

    def _clear_away(self) -> None:
        """Remove the notes of what has neither a directory nor a process: once in a boot, or after an upgrade."""
        names = [name for name in os.listdir(self._place) if name != _COMPLETE]
        noted = {name: (_target(f"{self._place}/{name}") or "").partition(" ")[2] for name in names}
        gone = [name for name, path in noted.items() if not os.path.exists(path)]
        # Only now, for what is launched has a directory then: whose it is that goes meanwhile is seen.
        running = {_name(path) for path in self._look().values()} if gone else set()
        for name in set(gone) - running:
            os.unlink(f"{self._place}/{name}")


def _usable(place: Path) -> bool:
    try:
        return bool(private_dir(place))
    except NodeError:
        return False


def _counted_by() -> str:
    """This boot, and whose processes we see in it."""
    return f"{boot_id()} {os.readlink('/proc/self/ns/pid')}"


def _name(directory: str) -> str:
    return hashlib.sha256(os.fsencode(directory)).hexdigest()[:40]


def _target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
