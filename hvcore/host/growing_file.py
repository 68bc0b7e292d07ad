"""The lines that are added to a file. Another user may own the file: it can have any contents, and be replaced by anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

__all__ = ["LINE_BYTES", "PIECE_BYTES", "GrowingFile", "Line", "Missing"]

PIECE_BYTES: Final = 64 * 1024
"""The most that is read at a time."""
LINE_BYTES: Final = 32 * 1024
"""The longest line; longer ones are skipped. QEMU's events have some hundred bytes."""
_BACKLOG_BYTES: Final = 8 << 20  # of more that was not read yet, only the end is


class Line(NamedTuple):
    """A line without its newline, and the place in the file after it."""

    text: bytes
    end: int


class Missing(NamedTuple):
    """Something was lost at this place, for that reason, in words. ``end`` is where the reading continues."""

    reason: str
    end: int


class GrowingFile:
    """Reads the lines of the file at ``path`` from a place on. Keeps no descriptor open.

    The place is the number of bytes before it. Holes are skipped: older lines were there. ``more`` is whether the last read
    stopped before the end of the file.
    """

    def __init__(self, path: str, place: int = 0) -> None:
        self.path = path
        self.place = place
        self.more = False
        self._inode: int | None = None
        self._skips = False  # the rest of a line

    def added(self) -> list[Line | Missing]:
        """The next lines, of at most `PIECE_BYTES`. A line without its newline waits for the next call."""
        self.more, before = False, self._inode
        try:
            with self._opened() as fd:
                if fd is not None:
                    return list(self._added(fd, before))
        except OSError:  # a file system that fails
            self._inode = None
        return [] if before is None else [Missing("the file with its events cannot be read any more", self.place)]

    def _added(self, fd: int, before: int | None) -> Iterator[Line | Missing]:
        found = os.fstat(fd)
        if before is not None and found.st_ino != before:
            yield self._from(0, "the file with its events was replaced")
        if found.st_size < self.place:
            yield self._from(0, "the file with its events was cut")
        yield from self._skip_hole(fd)
        if found.st_size - self.place > _BACKLOG_BYTES:
            end = found.st_size - PIECE_BYTES
            yield self._from(end, f"{end - self.place} bytes of events came faster than they were read")
            self._skips = True
        piece = os.pread(fd, PIECE_BYTES, self.place)
        yield from self._lines(piece, at_end=self.place + len(piece) >= found.st_size)

    @contextmanager
    def _opened(self) -> Iterator[int | None]:
        """A descriptor of the file, if it is a regular file, never through a link; else None."""
        fd, self._inode = -1, None
        try:
            with suppress(OSError, ValueError):  # without it, through a link, or with a NUL in its path
                fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            found = os.fstat(fd) if fd >= 0 else None
            if found is not None and stat.S_ISREG(found.st_mode):
                self._inode = found.st_ino
            yield fd if self._inode is not None else None
        finally:
            if fd >= 0:
                os.close(fd)

    def _from(self, place: int, reason: str) -> Missing:
        self.place, self._skips = place, False
        return Missing(reason, place)

    def _skip_hole(self, fd: int) -> Iterator[Missing]:
        try:
            data = os.lseek(fd, self.place, os.SEEK_DATA)
        except OSError:  # at the end, or a file system that does not know its holes
            return
        if data > self.place:
            yield self._from(data, f"{data - self.place} bytes of older events were removed")
            self._skips = True  # the hole may end within a line

    def _lines(self, piece: bytes, *, at_end: bool) -> Iterator[Line | Missing]:
        first, begin = self.place, 0
        while (newline := piece.find(b"\n", begin)) >= 0:
            text, begin = piece[begin:newline], newline + 1
            self.place = first + begin
            if self._skips:
                self._skips = False
            elif len(text) > LINE_BYTES:
                yield self._too_long()
            else:
                yield Line(text, self.place)
        rest = len(piece) - begin
        if self._skips:
            self.place = first + len(piece)
        elif rest > LINE_BYTES:
            self.place, self._skips = first + len(piece), True
            yield self._too_long()
        self.more = not at_end

    def _too_long(self) -> Missing:
        return Missing(f"a line of more than {LINE_BYTES} bytes", self.place)
