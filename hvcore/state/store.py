"""The state of a node's instances in a run directory: a record in a directory for each. ARCHITECTURE.md lists the files."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError, NodeError, NotFoundError, RecordError
from hvcore.host.files import private_dir, remove_tree, write_atomic
from hvcore.host.launching.launch_notes import launched_without_state
from hvcore.host.lock import held_directory, held_lock, is_held
from hvcore.host.processes.process import boot_id
from hvcore.host.record_file import read_record
from hvcore.host.reservations import Reservations, has_reserved, kinds_of
from hvcore.model.names import name_problem
from hvcore.model.record import LIFE_LOCK, RECORD_FILE, Record, record_bytes
from hvcore.state.kept_record import KeptRecord

__all__ = ["Store"]

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_MOST_PLACES: Final = 4096
_TICK_NS: Final = 100_000_000  # the timestamps of files have at most this resolution, in most kernels 4 ms


class Store:
    """The records of one node's instances."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._cache: dict[str, tuple[tuple[int, int, int], Record]] = {}
        self._dirs: dict[str, tuple[Path, str]] = {}
        self._owned: tuple[tuple[tuple[int, int], ...], frozenset[str]] | None = None

    def names(self) -> list[str]:
        """Every name with state on this node, sorted. Raises `NodeError`."""
        try:
            found = os.listdir(self.run_dir / "instances")
        except FileNotFoundError:
            found = []
        except OSError as error:
            what = f"run directory {str(self.run_dir)!r}: cannot be read, got {error.strerror}"
            raise NodeError(f"{what}; choose another with --run-dir, or check its owner") from error
        found += self._owners().difference(found)
        found += set(launched_without_state(self.run_dir / "instances")).difference(found)
        found += set(KeptRecord.names(self.run_dir)).difference(found)
        for name in set(self._cache).difference(found):
            self._cache.pop(name, None)
        return sorted(name for name in found if name in self._cache or name_problem(name) is None)

    def _owners(self) -> frozenset[str]:
        """Every instance with a reservation, also if it has no other state on this node.

        Cached until one of the directories changes; not cached within the resolution of its timestamp.
        """
        root = self.run_dir / "reservations"
        now_ns = time.time_ns()
        kinds = sorted(kinds_of(root))
        changed = tuple(_last_change(path) for path in (str(root), *(f"{root}/{kind}" for kind in kinds)))
        if self._owned is not None and self._owned[0] == changed:
            return self._owned[1]
        found: set[str] = set()
        for kind in kinds:
            with suppress(OSError):  # a failing file system is reported by the next write
                found.update(Reservations(root / kind).items().values())
        owners = frozenset(found)
        settled = all(now_ns - time_ns > _TICK_NS for _, time_ns in changed)
        self._owned = (changed, owners) if settled else None
        return owners

    def abandoned_locks(self) -> list[str]:
        """Names with a lock file that no process holds: an operation died before it wrote any other state."""
        try:
            found = os.listdir(self.run_dir / "locks")
        except FileNotFoundError:
            return []
        return sorted(name for name in found if name_problem(name) is None and not self.locked(name))

    def dir(self, name: str) -> Path:
        """The instance's directory, which may be missing. Raises `NotFoundError` for an impossible name."""
        return self._places(name)[0]

    def _places(self, name: str) -> tuple[Path, str]:
        """The paths of the instance's directory and record, cached: each operation needs them often."""
        found = self._dirs.get(name)
        if found is None:
            if name_problem(name) is not None:
                raise NotFoundError(repr(name)[:80], hint="that cannot be the name of an instance; see hv list")
            if len(self._dirs) >= _MOST_PLACES:
                self._dirs.clear()
            directory = self.run_dir / "instances" / name
            found = self._dirs[name] = (directory, f"{directory}/{RECORD_FILE}")
        return found

    def create(self, name: str) -> Path:
        """The instance's directory, made if it is missing, 0700."""
        private_dir(self.run_dir)
        private_dir(self.run_dir / "instances")
        return private_dir(self.dir(name))

    def load(self, name: str) -> Record | None:
        """The instance's record; None without any state of that name. Unchanged records are cached.

        Raises `RecordError` for state without a readable record.
        """
        directory, path = self._places(name)
        try:
            found = os.stat(path, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return self._without_record(name)
        except OSError as error:
            self._cache.pop(name, None)
            what = f"{name}: its directory cannot be used, got {error.strerror}; check {directory}"
            raise RecordError(what) from error
        key = (found.st_ino, found.st_mtime_ns, found.st_size)
        cached = self._cache.get(name)
        if cached is not None and cached[0] == key:
            return cached[1]
        try:
            record = read_record(Path(path), name)
        except OSError as error:
            raise RecordError(f"{name}: its record cannot be read, got {error.strerror}; check {path}") from error
        if record.boot_id != boot_id() and is_held(directory / LIFE_LOCK):
            what = f"{name}: its record names another boot of the node, but its processes run"
            raise RecordError(f"{what}; hv stop --force ends them and moves the record to 'damaged'")
        self._cache[name] = (key, record)
        return record

    def _without_record(self, name: str) -> Record | None:
        self._cache.pop(name, None)
        reserved = False
        with suppress(OSError):  # as in `_owners`
            reserved = has_reserved(self.run_dir / "reservations", name)
        # Read last: a start that begins meanwhile writes its record before it reserves anything.
        contents = _contents(self.dir(name))
        if RECORD_FILE in contents:
            return self.load(name)
        # A reboot keeps its reservations of disks from the stop to the start, also if hvcore is killed there.
        if contents or (reserved and not self.kept(name).exists):
            todo = "hv stop --force ends it and keeps files that are not its own in 'damaged'"
            raise RecordError(f"{name}: its record is missing; {todo}")
        return None

    def save(self, record: Record) -> None:
        """Replace the record on disk, durably. Raises `NodeError`; the old record then stays."""
        try:
            write_atomic(self.dir(record.name) / RECORD_FILE, record_bytes(record))
        except OSError as error:
            todo = f"free some space there, or repair {self.run_dir}"
            raise NodeError(f"{record.name}: its record cannot be saved, got {error.strerror}; {todo}") from error

    def remove(self, name: str) -> None:
        """Remove all state of the instance, the record last, so that recovery finds it after a crash.

        Raises `LeftoverError` if a part cannot be removed.
        """
        self._cache.pop(name, None)
        directory = self.dir(name)
        _refuse_link(directory)
        try:
            children = (
                [child for child in directory.iterdir() if child.name != RECORD_FILE] if directory.is_dir() else []
            )
            for child in sorted(children):
                if child.is_dir() and not child.is_symlink():
                    remove_tree(child)
                else:
                    child.unlink(missing_ok=True)
            (directory / RECORD_FILE).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                directory.rmdir()
        except OSError as error:
            what = f"{error.filename or name}: cannot be removed, got {error.strerror}"
            raise LeftoverError(f"{what}; check the file system of {self.run_dir}") from error

    def set_aside(self, name: str) -> Path | None:
        """Move an unreadable record to ``damaged``; its new path, None without a record.

        A directory with neither a record nor a life lock never was an instance's, so all of it is moved. If ``damaged``
        cannot be made, the target is in the run directory.
        """
        directory = path = self.dir(name)
        if os.path.lexists(directory / RECORD_FILE) or os.path.lexists(directory / LIFE_LOCK):
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
        except OSError as error:
            what = f"{path}: cannot be moved to {target}, got {error.strerror}"
            raise LeftoverError(f"{what}; check the file system of {self.run_dir}") from error
        return target

    @contextmanager
    def lock(
        self, name: str, purpose: str, *, wait_s: float = 5.0, while_busy: Callable[[], float] = lambda: 0.0
    ) -> Iterator[None]:
        """Hold the lock of this instance, for an operation that changes it. Raises `BusyError` naming the holder.

        ``while_busy`` is called, again and again, while another operation holds it: how many seconds longer to wait.

        Raises `LeftoverError` if its directory, or that of all instances, is a link: an operation would remove or unmount
        things of others there.
        """
        self.dir(name)
        private_dir(self.run_dir)
        path = private_dir(self.run_dir / "locks") / name
        with ExitStack() as held:
            try:
                held.enter_context(
                    held_lock(path, subject=name, purpose=f"{purpose} {name}", wait_s=wait_s, while_busy=while_busy)
                )
            except NodeError as error:
                # No lock file can be made. The instance's directory is locked in any case, and nothing may need room
                # to stop an instance.
                if getattr(error.__cause__, "errno", None) not in _NO_ROOM or not self.dir(name).is_dir():
                    raise
            _refuse_link(self.run_dir / "instances")
            _refuse_link(self.dir(name))
            held.enter_context(held_directory(self.dir(name), subject=name, wait_s=wait_s, while_busy=while_busy))
            yield

    def kept(self, name: str) -> KeptRecord:
        """The record that a reboot of the instance keeps."""
        self.dir(name)
        return KeptRecord(self.run_dir, name)

    def locked(self, name: str) -> bool:
        """True while an operation holds the instance's lock."""
        path = self.run_dir / "locks" / name
        try:
            return is_held(path)
        except OSError as error:
            raise NodeError(f"{path}: cannot be read, got {error.strerror}; repair {self.run_dir}") from error


def _refuse_link(directory: Path) -> None:
    if directory.is_symlink():
        what = f"{directory}: is a link that hvcore did not make; nothing behind it is changed"
        raise LeftoverError(f"{what}; check where it leads, then unlink it")


def _last_change(path: str) -> tuple[int, int]:
    """The directory's inode and the time of its last change of entries; zeros without it."""
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _contents(directory: Path) -> list[str]:
    """Names in the directory, without the unfinished first record that a crash can leave; empty without a directory."""
    try:
        found = os.listdir(directory)
    except OSError:
        return []
    return [name for name in found if not (name.startswith(".record.json.") and name.endswith(".new"))]
