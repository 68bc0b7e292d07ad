"""Where a node keeps its state: one directory per instance, with its record in it.

::

    RUN_DIR/instances/NAME/record.json    the record, replaced in one step
    RUN_DIR/instances/NAME/...            what the driver needs: sockets, logs, mount points
    RUN_DIR/locks/NAME                    held while an operation is at work
    RUN_DIR/reservations/KIND/KEY         a link to the owner's name
    RUN_DIR/reservations/owners/NAME/...  a note for each of its reservations
    RUN_DIR/damaged/NAME.STAMP            records that could not be read, kept for a person to look at, and what lay
                                          in the place of an instance and was never one
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError, NodeError, NotFoundError, RecordError
from hvcore.host.files import private_dir, read_regular, remove_tree, write_atomic
from hvcore.host.lock import held_lock, is_held
from hvcore.host.reservations import Reservations, has_reserved, kinds_of
from hvcore.model.names import name_problem
from hvcore.model.record import RECORD_FILE, Record, parse_record, record_bytes

__all__ = ["Store"]

_MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
_MOST_PLACES: Final = 4096
_TICK_NS: Final = 100_000_000  # no kernel counts the time of files in longer steps, most in 4 ms


class Store:
    """The records of one node's instances."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._cache: dict[str, tuple[tuple[int, int, int], Record]] = {}
        self._dirs: dict[str, tuple[Path, str]] = {}
        self._owned: tuple[tuple[tuple[int, int], ...], frozenset[str]] | None = None

    def names(self) -> list[str]:
        """Every name that has state on this node, sorted. Raises `NodeError` when it cannot be read."""
        try:
            found = os.listdir(self.run_dir / "instances")
        except FileNotFoundError:
            found = []
        except OSError as error:
            what = f"run directory {str(self.run_dir)!r}: cannot be read, got {error.strerror}"
            raise NodeError(f"{what}; choose another with --run-dir, or see whose it is") from error
        found += self._owners().difference(found)
        for name in set(self._cache).difference(found):
            self._cache.pop(name, None)
        return sorted(name for name in found if name in self._cache or name_problem(name) is None)

    def _owners(self) -> frozenset[str]:
        """Everybody who has reserved something, also with nothing else left of him on this node.

        Read again when one of the directories has changed, or may have changed again in the tick of its last change.
        """
        root = self.run_dir / "reservations"
        begun_ns = time.time_ns()
        kinds = sorted(kinds_of(root))
        changed = tuple(_changed(path) for path in (str(root), *(f"{root}/{kind}" for kind in kinds)))
        if self._owned is not None and self._owned[0] == changed:
            return self._owned[1]
        found: set[str] = set()
        for kind in kinds:
            with suppress(OSError):  # a file system that fails is told where something is written to it
                found.update(Reservations(root / kind).items().values())
        owners = frozenset(found)
        settled = all(begun_ns - time_ns > _TICK_NS for _, time_ns in changed)
        self._owned = (changed, owners) if settled else None
        return owners

    def abandoned_locks(self) -> list[str]:
        """Names with a lock file that nobody holds: an operation died before it had written any other state."""
        try:
            found = os.listdir(self.run_dir / "locks")
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name_problem(name) is None and not self.locked(name))

    def dir(self, name: str) -> Path:
        """The instance's own directory, whether it exists or not. Raises `NotFoundError` for an impossible name."""
        return self._places(name)[0]

    def _places(self, name: str) -> tuple[Path, str]:
        """The instance's directory and its record: asked for several times in every operation, and slow to put together."""
        found = self._dirs.get(name)
        if found is None:
            if name_problem(name) is not None:
                raise NotFoundError(repr(name)[:80], hint="that is not even an instance name; see hv list")
            if len(self._dirs) >= _MOST_PLACES:
                self._dirs.clear()
            directory = self.run_dir / "instances" / name
            found = self._dirs[name] = (directory, f"{directory}/{RECORD_FILE}")
        return found

    def create(self, name: str) -> Path:
        """The instance's own directory, made if it is missing, 0700."""
        private_dir(self.run_dir)
        private_dir(self.run_dir / "instances")
        return private_dir(self.dir(name))

    def load(self, name: str) -> Record | None:
        """The instance's record, or None when there is no state of that name.

        Raises `RecordError` when there is state and no readable record. Unchanged records are not read again.
        """
        directory, path = self._places(name)
        try:
            found = os.stat(path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return self._without_record(name)
        except OSError as error:
            self._cache.pop(name, None)
            what = f"{name}: its directory cannot be used, got {error.strerror}; look at {directory}"
            raise RecordError(what) from error
        key = (found.st_ino, found.st_mtime_ns, found.st_size)
        cached = self._cache.get(name)
        if cached is not None and cached[0] == key:
            return cached[1]
        try:
            data = read_regular(Path(path), limit=_MAX_RECORD_BYTES)
        except OSError as error:
            raise RecordError(f"{name}: its record cannot be read, got {error.strerror}; check {path}") from error
        record = parse_record(data, name)
        self._cache[name] = (key, record)
        return record

    def _without_record(self, name: str) -> Record | None:
        self._cache.pop(name, None)
        there = _contents(self.dir(name))
        if RECORD_FILE in there:  # only just: by a start that is at work
            return self.load(name)
        reserved = False
        with suppress(OSError):  # as in `_owners`
            reserved = has_reserved(self.run_dir / "reservations", name)
        if there or reserved:
            todo = "hv stop --force ends it and keeps aside what is not its own"
            raise RecordError(f"{name}: its record is missing; {todo}")
        return None

    def save(self, record: Record) -> None:
        """Replace the record on disk, durably. Raises `NodeError` when that fails; the old one is then still there."""
        try:
            write_atomic(self.dir(record.name) / RECORD_FILE, record_bytes(record))
        except OSError as error:
            todo = f"make room or repair {self.run_dir}"
            raise NodeError(f"{record.name}: its record cannot be saved, got {error.strerror}; {todo}") from error

    def remove(self, name: str) -> None:
        """Remove all state of the instance, the record last, so that a crash in between is still seen.

        Raises `LeftoverError` when something of it cannot be removed.
        """
        self._cache.pop(name, None)
        try:
            self._remove(self.dir(name))
        except OSError as error:
            what = f"{error.filename or name}: cannot be removed, got {error.strerror}"
            raise LeftoverError(f"{what}; check the file system of {self.run_dir}") from error

    @staticmethod
    def _remove(directory: Path) -> None:
        _refuse_link(directory)
        for child in sorted(directory.iterdir()) if directory.is_dir() else ():
            if child.name == RECORD_FILE:
                continue
            if child.is_dir() and not child.is_symlink():
                remove_tree(child)
            else:
                child.unlink(missing_ok=True)
        (directory / RECORD_FILE).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            directory.rmdir()

    def set_aside(self, name: str) -> Path | None:
        """Move an unreadable record away without losing it; its new path, or None when there was none.

        Nobody has made a directory with neither a record nor a life lock for an instance: that is moved as a whole.
        Where there can be no directory for what is damaged, the run directory itself has to do.
        """
        directory = path = self.dir(name)
        if os.path.lexists(directory / RECORD_FILE) or os.path.lexists(directory / "alive"):
            path = directory / RECORD_FILE
        self._cache.pop(name, None)
        stamped = f"{name}.{time.time_ns()}"
        try:
            target = private_dir(self.run_dir / "damaged") / stamped
        except NodeError:
            target = self.run_dir / f"damaged-{stamped}"
        try:
            path.rename(target)
        except FileNotFoundError:
            return None
        return target

    @contextmanager
    def lock(self, name: str, purpose: str, *, wait_s: float = 5.0) -> Iterator[None]:
        """Be the only one who changes this instance. Raises `BusyError` naming the holder.

        Also raises `LeftoverError` when its directory is a link, or that of all instances: what an operation removes or
        unmounts there would be somebody else's.
        """
        self.dir(name)
        private_dir(self.run_dir)
        path = private_dir(self.run_dir / "locks") / name
        with held_lock(path, subject=name, purpose=f"{purpose} {name}", wait_s=wait_s):
            _refuse_link(self.run_dir / "instances")
            _refuse_link(self.dir(name))
            yield

    def locked(self, name: str) -> bool:
        """True while an operation is at work on the instance."""
        return is_held(self.run_dir / "locks" / name)


def _refuse_link(directory: Path) -> None:
    if directory.is_symlink():
        what = f"{directory}: is a link, and never made by us; nothing behind it is touched"
        raise LeftoverError(f"{what}; look at where it leads, then unlink it")


def _changed(path: str) -> tuple[int, int]:
    """Which directory it is and when an entry of it was last made or removed; zeros when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _contents(directory: Path) -> list[str]:
    """What is in there, but for the half of a first record that a crash can leave; nothing when it is no directory."""
    try:
        found = os.listdir(directory)
    except OSError:
        return []
    return [name for name in found if not (name.startswith(".record.json.") and name.endswith(".new"))]
