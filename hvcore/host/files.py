"""Files that survive a crash and directories that nobody else can touch."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError, NodeError
from hvcore.host.mount_table import mounts_at_or_below

__all__ = ["changed_by_others", "fsync_dir", "private_dir", "read_regular", "remove_tree", "tail", "write_atomic"]

_TAIL_BYTES: Final = 64 * 1024


def private_dir(path: Path) -> Path:
    """Make ``path`` if it is missing, mode 0700, and prove that it is a directory only we can write to.

    Raises `NodeError` when it is a link, somebody else's, or open to group or others: a run
    directory that another user can write to would let them replace sockets and records.
    """
    try:
        _make_dir(path)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise NodeError(
            f"run directory {str(path)!r}: cannot be used, got {error.strerror}; choose another with --run-dir"
        ) from error
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    if found.st_uid != os.geteuid():
        raise NodeError(f"run directory {str(path)!r}: belongs to uid {found.st_uid}; use one that is your own")
    if stat.S_IMODE(found.st_mode) & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise NodeError(f"run directory {str(path)!r}: others can write to it, got mode {mode:04o}; chmod 0700 it")
    return path


def _make_dir(path: Path) -> None:
    # Path.mkdir(parents=True) makes the parents as the umask says, which in some daemons is nothing at all.
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        _make_dir(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, mode 0600: after a crash at any point the old or the new content is there, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def changed_by_others(found: os.stat_result) -> str | None:
    """``can be changed by others, ...`` for a file that somebody else than root and we can write to, else None."""
    if found.st_uid in (0, os.geteuid()) and not found.st_mode & stat.S_IWOTH:
        return None
    return f"can be changed by others, uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}"


def fsync_dir(path: Path) -> None:
    """Make the names in the directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_regular(path: Path, *, limit: int, from_end: bool = False) -> bytes:
    """Up to ``limit`` bytes of a regular file, never through a link, never blocking on a FIFO.

    Raises OSError; ELOOP for a link, and EINVAL for what is no regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(22, "not a regular file", str(path))
        offset = max(0, found.st_size - limit) if from_end else 0
        return os.pread(fd, limit, offset)
    finally:
        os.close(fd)


def tail(path: Path) -> str:
    """The last 64 KiB of a log as text; what is not UTF-8 is shown escaped. Empty when there is no such file."""
    try:
        data = read_regular(path, limit=_TAIL_BYTES, from_end=True)
    except OSError:
        return ""
    return data.decode("utf-8", "backslashreplace")


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, without following a link or crossing into a mounted file system.

    Missing is fine. Raises `LeftoverError` when something is still mounted below: deleting would
    then delete the contents of somebody's disk.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _refuse_mounted(path)
        _empty(top, path)
    finally:
        os.close(top)
    path.rmdir()


def _refuse_mounted(path: Path) -> None:
    # By the table and not only by device: the directory may be a mount point itself, also of its own file system.
    mounted = mounts_at_or_below(f"{path.parent.resolve()}/{path.name}")
    if mounted:
        raise LeftoverError(f"{mounted[0].point}: still mounted, nothing below {path} was removed; unmount it")


def _empty(top: int, path: Path) -> None:
    """Remove what is in a directory. What is nested is moved up first and no function calls itself.

    A guest that can write here may have nested deeper than a stack, a path or the descriptors of a process reach.
    """
    waiting = _remove_files(top, top)
    while waiting:
        name = waiting.pop()
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            if os.fstat(fd).st_dev != os.fstat(top).st_dev:
                raise LeftoverError(f"{path}/{name}: belongs to another file system; remove that by hand")
            waiting += _remove_files(fd, top)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _remove_files(directory: int, top: int) -> list[str]:
    """Unlink what is no directory, remove empty ones, move the others to ``top``; their names there."""
    kept = []
    with os.scandir(directory) as found:
        entries = list(found)
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=directory)
            continue
        try:
            os.rmdir(entry.name, dir_fd=directory)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            name = entry.name if directory == top else f".{os.urandom(16).hex()}"
            os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=top)
            kept.append(name)
    return kept
