"""The directories and files of a run directory in which something changes when something happens to an instance."""

from __future__ import annotations

import select
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from hvcore.host.notifier import ENTRIES, GONE, GROWS, OVERFLOW, Notifier
from hvcore.model.record import RECORD_FILE

__all__ = ["EVERY", "Places"]

EVERY: Final = ""
"""In place of a name: any instance may have changed."""
_QUIET_S: Final = 0.02  # between two readings of files that guests write, so that a guest cannot keep us busy


class Places:
    """Watches the directory of all instances, that of each instance, and files of events.

    A directory that is missing is waited for. Files that guests write have another notifier: a guest that writes all
    the time cannot fill the queue of the other.
    """

    def __init__(self, run_dir: Path, poll: select.epoll) -> None:
        self._instances = run_dir / "instances"
        self._poll = poll
        self._dirs: dict[int, str] = {}
        self._files: dict[int, tuple[str, str]] = {}
        self._followed: dict[str, int] = {}
        self._root: int | None = None
        self._awaited: str | None = (
            None  # the name that has to appear in the watched directory; None: all are instances
        )
        self._quiet_until: float | None = None
        self._ours = Notifier()
        try:
            self._guests = Notifier()
        except BaseException:
            self._ours.close()
            raise
        for notifier in (self._ours, self._guests):
            poll.register(notifier.fd, select.EPOLLIN)
        self.find_root()

    def close(self) -> None:
        """End all watches."""
        self._ours.close()
        self._guests.close()

    def find_root(self) -> None:
        """Watch the directory of all instances, or the nearest one above it that exists, until it appears."""
        while True:
            if self._root is not None:
                self._ours.unwatch(self._root)
            path, awaited = self._instances, None
            while (found := self._ours.watch(str(path), ENTRIES)) is None and path != path.parent:
                awaited, path = path, path.parent
            self._root, self._awaited = found, None if awaited is None else awaited.name
            if awaited is None or not awaited.is_dir() or awaited.is_symlink():  # else it has just been made
                return

    def follow(self, name: str) -> None:
        """Watch the directory of that instance. Does nothing if it is watched, or missing."""
        if name not in self._followed:
            watch = self._ours.watch(str(self._instances / name), ENTRIES)
            if watch is not None:
                self._dirs[watch], self._followed[name] = name, watch

    def follow_file(self, path: str, name: str) -> None:
        """Watch that file of events of the instance."""
        watch = self._guests.watch(path, GROWS)
        if watch is not None:
            self._files[watch] = (path, name)

    def changed(self, ready: Collection[int]) -> Iterator[tuple[str, bool]]:
        """Instances that may have changed, and whether more than their files of events. ``ready``: readable descriptors."""
        if self._ours.fd in ready:
            yield from self._changed_directories()
        if self._guests.fd in ready:
            yield from self._changed_files()
            self._poll.modify(self._guests.fd, 0)
            self._quiet_until = time.monotonic() + _QUIET_S

    def quiet_left_s(self) -> float | None:
        """Seconds until files of guests are read again; None if they can be read at any time."""
        if self._quiet_until is None:
            return None
        left_s = self._quiet_until - time.monotonic()
        if left_s > 0.0:
            return left_s
        self._quiet_until = None
        self._poll.modify(self._guests.fd, select.EPOLLIN)
        return None

    def _changed_directories(self) -> Iterator[tuple[str, bool]]:
        for change in self._ours.changes():
            if change.mask & OVERFLOW:
                yield EVERY, True
            elif change.watch == self._root:
                if change.mask & GONE or change.name == self._awaited:
                    self.find_root()
                    yield EVERY, True
                elif self._awaited is None:
                    yield change.name, True
            elif change.watch in self._dirs:
                name = self._dirs[change.watch]
                if change.mask & GONE:
                    del self._dirs[change.watch], self._followed[name]
                    self._ours.unwatch(change.watch)  # one that was moved away is still watched
                    yield name, True
                elif change.name == RECORD_FILE:
                    yield name, True

    def _changed_files(self) -> Iterator[tuple[str, bool]]:
        for change in self._guests.changes():
            if change.mask & OVERFLOW:
                yield EVERY, False
            elif change.watch in self._files:
                path, name = self._files[change.watch]
                if change.mask & GONE:
                    del self._files[change.watch]
                    self._guests.unwatch(change.watch)
                    self.follow_file(path, name)
                yield name, False
