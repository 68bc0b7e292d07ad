"""Reading the end of a file, and what is added to it from then on, told by inotify(7).

The file is not kept open meanwhile: that would keep the file system busy that it is on.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.processes.process import wait_readable

__all__ = ["log_pieces"]

_PIECE_BYTES: Final = 64 * 1024
_IN_MODIFY: Final = 0x2  # linux/inotify.h
_IN_ATTRIB: Final = 0x4  # the number of links too, for a file that somebody still has open
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_IN_UNMOUNT: Final = 0x2000
_IN_IGNORED: Final = 0x8000
_IN_DONT_FOLLOW: Final = 0x2000000
_EVENT: Final = struct.Struct("iIII")
_FOREVER_S: Final = 1e9


def log_pieces(path: str, *, lines: int | None = None, follow: bool = False) -> Iterator[bytes]:
    """The last ``lines`` lines of the file, all of them for None, in pieces; with ``follow``, what is added later too.

    Following ends when the file is removed, moved away or its file system unmounted; of one that is cut short, it
    begins anew. A file that is not there has nothing in it.
    """
    if not follow:
        yield from _added(path, _line_start(path, lines))
        return
    with _watched(path) as watch:
        offset = _line_start(path, lines)
        while True:
            offset = _kept(path, offset)
            for piece in _added(path, offset):
                offset += len(piece)
                yield piece
            if watch < 0 or not _wait(watch) or not _is_file(path):
                return


def _open(path: str) -> int:
    """The regular file at that path, never through a link; -1 when there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return -1


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _kept(path: str, offset: int) -> int:
    """The offset, or 0 when the file has been cut short of it since (logrotate's copytruncate)."""
    try:
        return offset if os.lstat(path).st_size >= offset else 0
    except OSError:
        return offset


def _added(path: str, offset: int) -> Iterator[bytes]:
    at = offset
    while piece := _read(path, at):
        at += len(piece)
        yield piece


def _read(path: str, offset: int) -> bytes:
    fd = _open(path)
    if fd < 0:
        return b""
    try:
        return os.pread(fd, _PIECE_BYTES, offset)
    finally:
        os.close(fd)


def _line_start(path: str, lines: int | None) -> int:
    """Where the last lines begin, searched from the end. A last line without an end counts."""
    fd = -1 if lines is None else _open(path)
    if fd < 0 or lines is None:
        return 0
    try:
        end = os.fstat(fd).st_size
        if lines == 0:
            return end
        wanted = lines + (end > 0 and os.pread(fd, 1, end - 1) == b"\n")
        at = end
        while at > 0:
            begin = max(0, at - _PIECE_BYTES)
            block = os.pread(fd, at - begin, begin)
            while (found := block.rfind(b"\n")) >= 0:
                wanted -= 1
                if wanted == 0:
                    return begin + found + 1
                block = block[:found]
            at = begin
        return 0
    finally:
        os.close(fd)


@contextmanager
def _watched(path: str) -> Iterator[int]:
    """A descriptor that tells of changes to the file, -1 when there is no such file. Raises `NodeError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        reason = os.strerror(ctypes.get_errno())
        raise NodeError(f"{path}: cannot be followed, got {reason}; see fs.inotify.max_user_instances in sysctl")
    try:
        wanted = _IN_MODIFY | _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_DONT_FOLLOW
        watches = _is_file(path) and libc.inotify_add_watch(fd, os.fsencode(path), wanted) >= 0
        yield fd if watches else -1
    finally:
        os.close(fd)


def _wait(watch: int) -> bool:
    """Wait until something has happened to the file; False when that was its end."""
    wait_readable(watch, _FOREVER_S)
    try:
        told = os.read(watch, 4096)
    except BlockingIOError:
        return True
    while told:
        _, mask, _, length = _EVENT.unpack_from(told)
        if mask & (_IN_DELETE_SELF | _IN_MOVE_SELF | _IN_UNMOUNT | _IN_IGNORED):
            return False
        told = told[_EVENT.size + length :]
    return True
