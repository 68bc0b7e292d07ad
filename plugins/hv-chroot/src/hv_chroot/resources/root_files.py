"""Looking at files inside an instance's root file system, and making them, where any may be a link to anywhere."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hv_chroot.resources.owner import as_owner

__all__ = ["mount_point", "plain_directories", "program_problem"]

_SYS_OPENAT2: Final = 437  # the same on every architecture; Linux 5.6
_RESOLVE_NO_MAGICLINKS: Final = 0x02  # linux/openat2.h
_RESOLVE_IN_ROOT: Final = 0x10
_PLACE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def program_problem(root: Path, path: str) -> str | None:
    """Why the program at ``path`` cannot be run in that root, or None when it can.

    Links are followed as a process inside would follow them: an absolute one, or ``..``, stays below ``root``.
    """
    try:
        found = _stat_inside(root, path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "is not there"
        return f"cannot be looked at, got {os.strerror(error.errno or 0)}"
    if not stat.S_ISREG(found.st_mode):
        return "is not a file"
    if not found.st_mode & 0o111:
        return f"may not be executed, got mode {stat.S_IMODE(found.st_mode):04o}"
    return None


def _stat_inside(root: Path, path: str) -> os.stat_result:
    root_fd = _root_fd(root)
    try:
        how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
        libc = ctypes.CDLL(None, use_errno=True)
        name = ctypes.c_char_p(os.fsencode(path))
        fd = libc.syscall(ctypes.c_long(_SYS_OPENAT2), root_fd, name, how, ctypes.c_size_t(len(how)))
        if fd < 0:
            raise OSError(ctypes.get_errno(), "openat2", path)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)
    finally:
        os.close(root_fd)


def _root_fd(root: Path) -> int:
    return os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def plain_directories(root: Path, names: tuple[str, ...], *, may_be_made: bool) -> str | None:
    """Which of these is no directory in the root, in words; a link is none. None when all are, or can be made."""
    root_fd = _root_fd(root)
    try:
        for name in names:
            try:
                found = os.stat(name, dir_fd=root_fd, follow_symlinks=False)
            except FileNotFoundError:
                if may_be_made:
                    continue
                return f"/{name} is not there, and it is read-only"
            if not stat.S_ISDIR(found.st_mode):
                return f"/{name} is not a directory"
    finally:
        os.close(root_fd)
    return None


@contextmanager
def mount_point(root: Path, path: str, *, directory: bool, owner: int) -> Iterator[int]:
    """A descriptor of that place inside, to mount something on; what is missing on the way there is made.

    No link is followed, wherever it leads: one on the way is an error. ``owner`` is the uid and gid of the node that
    root inside has. Raises OSError.
    """
    *parents, last = path.strip("/").split("/")
    fds = [_root_fd(root)]
    try:
        with as_owner(owner):
            for name in parents:
                fds.append(_directory(fds[-1], name))
            fds.append(_directory(fds[-1], last) if directory else _file(fds[-1], last))
        yield fds[-1]
    finally:
        for fd in fds:
            os.close(fd)


def _directory(here: int, name: str) -> int:
    try:
        return os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=here)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=here)
        return os.open(name, _PLACE | os.O_DIRECTORY, dir_fd=here)


def _file(here: int, name: str) -> int:
    with suppress(FileExistsError):
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=here))
    fd = os.open(name, _PLACE, dir_fd=here)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "is no file, and what is shown there is one", name)
