"""Looking at files inside an instance's root file system, where any of them may be a link to anywhere."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from pathlib import Path
from typing import Final

__all__ = ["plain_directories", "program_problem"]

_SYS_OPENAT2: Final = 437  # the same on every architecture; Linux 5.6
_RESOLVE_NO_MAGICLINKS: Final = 0x02  # linux/openat2.h
_RESOLVE_IN_ROOT: Final = 0x10


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
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
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


def plain_directories(root: Path, names: tuple[str, ...], *, may_be_made: bool) -> str | None:
    """Which of these is no directory in the root, in words; a link is none. None when all are, or can be made."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for name in names:
            try:
                found = os.stat(name, dir_fd=root_fd, follow_symlinks=False)
            except FileNotFoundError:
                if may_be_made:
                    continue
                return f"/{name} is not there, and the disk is read-only"
            if not stat.S_ISDIR(found.st_mode):
                return f"/{name} is not a directory"
    finally:
        os.close(root_fd)
    return None
