"""Keeps the end of a stream in a file, in bounded space. The program beside an instance that `OutputHistory` launches.

Run as ``python -I -S output_reader.py PIPE FILE BYTES [OTHER]``, with descriptors. It imports nothing of hvcore, because its
sandbox shows only this file. The file is appended to, and a hole takes the place of what is older: a reader of the file
can follow it, and a kill at any moment leaves the end of the stream.
"""

from __future__ import annotations

import mmap
import os
import select
import sys
import time
from typing import Final

__all__ = ["copy"]

_PIECE: Final = 64 * 1024
_GATHER_S: Final = 0.01
_IDLE_S: Final = 5.0
_BUSY_S: Final = 0.1
_STEP: Final = 64 * 1024  # freed at once; a multiple of every page size


class _Kept:
    """The end of a file: what is older becomes a hole. ``file`` is open for reading and appending."""

    def __init__(self, file: int, keep: int) -> None:
        self.file, self._keep = file, keep
        self._freed = 0
        self.size = -1

    def bound(self) -> None:
        """Free what is too old. Raises OSError or ValueError where that is not possible."""
        self.size = os.fstat(self.file).st_size
        if self.size < self._freed:  # another program has emptied it
            self._freed = 0
        upto = (self.size - self._keep) // _STEP * _STEP
        if upto > self._freed:
            _free(self.file, self._freed, upto)
            self._freed = upto

    def begin_again(self, piece: bytes = b"") -> None:
        """Empty the file, and write the newest to it."""
        self._freed = 0
        try:
            os.ftruncate(self.file, 0)
            _append(self.file, piece)
        except OSError:
            pass  # lost: the stream must be read in any case, or its writer would wait


def copy(stream: int, file: int, keep: int, other: int = -1) -> None:
    """Append the stream to the file until its end, and keep at least the last ``keep`` bytes of it. -1: without a file.

    The file has at most ``keep`` and 128 KiB of space. ``other`` is a file that another program appends to: of that too,
    older bytes are freed, a few seconds later. Never waits for anything but the stream, and never fails: what cannot be
    written is lost.

    QEMU writes the bytes of a serial port one by one. So after a small piece it waits a moment for more: a guest that prints
    all the time would keep a processor busy with pieces of one byte.
    """
    output, log, ready = _Kept(file, keep), _Kept(other, keep), select.poll()
    ready.register(stream, select.POLLIN)
    wait_s, looked = 0.0, -_IDLE_S
    while True:
        # By the clock: inotify(7) has 128 instances for all programs of a user.
        if other >= 0 and time.monotonic() - looked >= wait_s:
            wait_s, looked = _bounded(log), time.monotonic()
        if other >= 0 and not ready.poll(wait_s * 1000):
            continue
        piece = os.read(stream, _PIECE)
        if not piece:
            return
        if file < 0:
            continue
        try:
            _append(file, piece)
            output.bound()
        except (OSError, ValueError):
            # No room, the largest size of a file, or no holes on this file system: begin again, with the newest.
            output.begin_again(piece)
        if len(piece) < _PIECE // 2:
            time.sleep(_GATHER_S)


def _bounded(log: _Kept) -> float:
    """Free what is too old; the seconds until the next look, few while the file grows."""
    before = log.size
    try:
        log.bound()
    except (OSError, ValueError):
        log.begin_again()
    return _IDLE_S if log.size == before else _BUSY_S


def _append(file: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(file, piece) :]


def _free(file: int, begin: int, end: int) -> None:
    """Make a hole of that part (madvise(2), MADV_REMOVE). Raises OSError where the file system has none."""
    with mmap.mmap(file, end - begin, offset=begin) as part:
        part.madvise(mmap.MADV_REMOVE)


if __name__ == "__main__":
    copy(*map(int, sys.argv[1:]))
