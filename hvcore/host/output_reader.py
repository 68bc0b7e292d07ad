"""Keeps the end of a stream in a file, in bounded space. The program beside an instance that `OutputHistory` launches.

Run as ``python -I -S output_reader.py PIPE FILE BYTES``, with two descriptors. It imports nothing of hvcore, because its
sandbox shows only this file. The file is appended to, and a hole takes the place of what is older: a reader of the file
can follow it, and a kill at any moment leaves the end of the stream.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import Final

__all__ = ["copy"]

_PIECE: Final = 64 * 1024
_STEP: Final = 64 * 1024  # freed at once; a multiple of every page size


def copy(stream: int, file: int, keep: int) -> None:
    """Append the stream to the file until its end, and keep at least the last ``keep`` bytes of it.

    The file has at most ``keep`` and 128 KiB of space. Never waits for anything but the stream, and never fails: what
    cannot be written is lost.
    """
    freed = 0
    while piece := os.read(stream, _PIECE):
        try:
            _append(file, piece)
            size = os.fstat(file).st_size
            if size < freed:  # somebody has emptied it
                freed = 0
            upto = (size - keep) // _STEP * _STEP
            if upto > freed:
                _free(file, freed, upto)
                freed = upto
        except (OSError, ValueError):
            # No room, the largest size of a file, or no holes on this file system: begin again, with the newest.
            freed = 0
            _begin_again(file, piece)


def _append(file: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(file, piece) :]


def _free(file: int, begin: int, end: int) -> None:
    """Make a hole of that part (madvise(2), MADV_REMOVE). Raises OSError where the file system has none."""
    with mmap.mmap(file, end - begin, offset=begin) as part:
        part.madvise(mmap.MADV_REMOVE)


def _begin_again(file: int, piece: bytes) -> None:
    try:
        os.ftruncate(file, 0)
        _append(file, piece)
    except OSError:
        pass  # lost: the stream must be read in any case, or its writer would wait


if __name__ == "__main__":
    copy(*map(int, sys.argv[1:]))
