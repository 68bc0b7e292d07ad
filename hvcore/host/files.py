"""Files that survive a crash, private directories, and removal of trees."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError, NodeError
from hvcore.host.mount_table import mounts_at_or_below

__all__ = [
    "changed_by_others",
    "fsync_dir",
    "leads_into",
    "private_dir",
    "read_regular",
    "remove_tree",
    "tail",
    "write_atomic",
]

_TAIL_BYTES: Final = 64 * 1024


def private_dir(path: Path) -> Path:
    """Make ``path`` if it is missing, mode 0700, and prove that it is a directory that only we can write to.

    Raises `NodeError` if it is a link, belongs to another user, or is writable for group or others: a user who can write
    to a run directory can replace sockets and records.
    """
    subject = f"run directory {str(path)!r}"
    try:
        try:
            fd = _open_dir(path)
        except FileNotFoundError:
            _make_dir(path)
            fd = _open_dir(path)
    except OSError as error:
        raise NodeError(f"{subject}: cannot be used, got {error.strerror}; choose another with --run-dir") from error
    try:
        found = os.fstat(fd)
    finally:
        os.close(fd)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != os.geteuid():
        raise NodeError(f"{subject}: belongs to uid {found.st_uid}; use one that is your own")
    if mode & 0o022:
        raise NodeError(f"{subject}: others can write to it, got mode {mode:04o}; chmod 0700 it")
    return path


def _open_dir(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _make_dir(path: Path) -> None:
    # Path.mkdir(parents=True) gives the parents the mode of the umask, which in some daemons is 0.
    if not path.parent.exists():
        _make_dir(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)


def write_atomic(path: Path, data: bytes, *, like: os.stat_result | None = None) -> None:
    """Replace ``path`` by ``data``: after a crash at any point it has the whole old or the whole new content.

    Its mode is 0600, or that of the file ``like``, whose owner it then also gets if we may give it away.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if like is not None:
                with suppress(PermissionError):
                    os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, stat.S_IMODE(like.st_mode) & 0o777)
            os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def changed_by_others(found: os.stat_result) -> str | None:
    """``can be changed by others, ...`` for a file that users other than root and us can write to, else None."""
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

    Raises OSError: ELOOP for a link, EINVAL for anything else that is not a regular file.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.pread(fd, limit, max(0, found.st_size - limit) if from_end else 0)
    finally:
        os.close(fd)


def tail(path: Path) -> str:
    """The last 64 KiB of a log as text, bytes that are not UTF-8 escaped. Empty for a missing file."""
    try:
        return read_regular(path, limit=_TAIL_BYTES, from_end=True).decode("utf-8", "backslashreplace")
    except OSError:
        return ""


def leads_into(link: Path, directory: Path) -> bool:
    """Whether that is a symbolic link whose target is written as a path below the directory."""
    return link.is_symlink() and os.readlink(link).startswith(f"{directory}/")


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it, without following a link or entering a mounted file system.

    A missing directory is fine. Raises `LeftoverError` while a file system is mounted below: its contents would be deleted.
    """
    try:
        top = _open_dir(path)
    except FileNotFoundError:
        return
    try:
        # The device numbers alone would not show it: the directory may be a mount point of the same one.
        mounted = mounts_at_or_below(f"{path.parent.resolve()}/{path.name}")
        if mounted:
            raise LeftoverError(f"{mounted[0].point}: still mounted, nothing below {path} was removed; unmount it")
        _empty(top, path)
    finally:
        os.close(top)
    path.rmdir()


def _empty(top: int, path: Path) -> None:
    """Remove the contents of a directory. Nested directories are moved up first, without recursion.

    A guest that can write here may nest deeper than the stack, the length of a path or the number of descriptors allow.
    """
    waiting = _remove_files(top, top)
    while waiting:
        name = waiting.pop()
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            if os.fstat(fd).st_dev != os.fstat(top).st_dev:
                raise LeftoverError(f"{path}/{name}: is on another file system; remove it by hand")
            waiting += _remove_files(fd, top)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _remove_files(directory: int, top: int) -> list[str]:
    """Unlink files, remove empty directories, move the others to ``top``; the names of those there."""
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
