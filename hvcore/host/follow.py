"""Reading the end of a file, and what is added to it later, reported by inotify(7).

The file is not kept open in between: an open file would keep its file system busy.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.notifier import GONE, GROWS, Notifier
from hvcore.host.processes.process import wait_readable

__all__ = ["log_pieces"]

_PIECE_BYTES: Final = 64 * 1024
_FOREVER_S: Final = 1e9


def log_pieces(path: str, *, lines: int | None = None, follow: bool = False) -> Iterator[bytes]:
    """The last ``lines`` lines of the file in pieces, None for all; with ``follow``, everything added later too.

    Following ends when the file is removed, moved away or its file system unmounted. It continues from the start of a
    file that was truncated. A missing file counts as empty. A hole is skipped: older output was there.
    """
    if not follow:
        yield from (piece for _, piece in _added(path, _line_start(path, lines)))
        return
    with _watched(path) as watch:
        offset = _line_start(path, lines)
        while True:
            size = _size(path)
            if size is not None and size < offset:  # truncated, as by logrotate's copytruncate
                offset = 0
            for at, piece in _added(path, offset):
                offset = at + len(piece)
                yield piece
            if watch is None or not _wait(watch) or _size(path) is None:
                return


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """A descriptor of the regular file at that path, never through a link; -1 without one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield -1
        return
    try:
        yield fd if stat.S_ISREG(os.fstat(fd).st_mode) else -1
    finally:
        os.close(fd)


def _size(path: str) -> int | None:
    """The size of the regular file at that path; None without one."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _added(path: str, offset: int) -> Iterator[tuple[int, bytes]]:
    """What the file has from there on, in pieces, each with its place."""
    while True:
        with _opened(path) as fd:
            offset = _data_from(fd, offset)
            piece = b"" if fd < 0 else os.pread(fd, _PIECE_BYTES, offset)
        if not piece:
            return
        yield offset, piece
        offset += len(piece)


def _data_from(fd: int, offset: int) -> int:
    """The first place from ``offset`` on that is not in a hole."""
    try:
        return offset if fd < 0 else os.lseek(fd, offset, os.SEEK_DATA)
    except OSError:  # at the end, or a file system that does not know its holes
        return offset


def _line_start(path: str, lines: int | None) -> int:
    """The offset of the last lines, searched from the end. A last line without a newline counts."""
    if lines is None:
        return 0
    with _opened(path) as fd:
        at = 0 if fd < 0 else os.fstat(fd).st_size
        if at == 0 or lines == 0:
            return at
        wanted = lines + (os.pread(fd, 1, at - 1) == b"\n")
        first = _data_from(fd, 0)
        while at > first:
            begin = max(first, at - _PIECE_BYTES)
            block = os.pread(fd, at - begin, begin)
            while (found := block.rfind(b"\n")) >= 0:
                wanted -= 1
                if wanted == 0:
                    return begin + found + 1
                block = block[:found]
            at = begin
        return first


@contextmanager
def _watched(path: str) -> Iterator[Notifier | None]:
    """Reports changes to the file; None without a file. Raises `NodeError`."""
    try:
        notifier = Notifier()
    except NodeError as error:
        what = f"{path}: cannot be followed, got {getattr(error.__cause__, 'strerror', error)}"
        raise NodeError(f"{what}; see fs.inotify.max_user_instances in sysctl") from error.__cause__
    with notifier:
        yield notifier if _size(path) is not None and _watches(notifier, path) else None


def _watches(notifier: Notifier, path: str) -> bool:
    with suppress(NodeError):  # at the node's limit the file is read once
        return notifier.watch(path, GROWS) is not None
    return False


def _wait(notifier: Notifier) -> bool:
    """Wait for an event of the file; False if the file was removed, moved or unmounted."""
    wait_readable(notifier.fd, _FOREVER_S)
    return not any(change.mask & GONE for change in notifier.changes())
