"""Whether the log of an XFS file system has to be replayed: its last record is not that of an unmount.

The head of the log is the place where the cycle number of its blocks changes; about twenty blocks are read to find it.
Names and offsets are those of fs/xfs/libxfs/xfs_log_format.h and of *XFS Algorithms & Data Structures*. Only what is
certain counts: a log that is external or not understood is not called dirty.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from hvcore.frozen import dataclass

__all__ = ["log_is_dirty"]

Read = Callable[[int, int], bytes]
"""``read(bytes, offset)``: what the disk has there."""

_BLOCK: Final = 512
_MAGIC: Final = 0xFEEDBABE
_BEFORE_HEAD: Final = 1024  # blocks: twice the largest record
_LARGEST_HEADER: Final = 32 << 10  # bytes of a record that one header block describes
_UNMOUNT: Final = 0x20  # XLOG_UNMOUNT_TRANS
_UUID: Final = slice(32, 48)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Log:
    """The log of a file system: where it begins, and its number of 512-byte blocks."""

    read: Read
    begin: int
    blocks: int

    def blocks_at(self, number: int, count: int = 1) -> bytes:
        return self.read(count * _BLOCK, self.begin + number * _BLOCK)

    def cycle(self, number: int) -> int:
        """The cycle number of that block: its first word, after the magic number in the header of a record."""
        first, second = struct.unpack_from(">2I", self.blocks_at(number).ljust(8, b"\0"))
        return int(second if first == _MAGIC else first)

    def head(self) -> int:
        """The number of the first block that was not written in the latest cycle."""
        newest, oldest = self.cycle(0), self.cycle(self.blocks - 1)
        if newest == oldest:
            return self.blocks
        low, high = 0, self.blocks - 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.cycle(middle) == newest else (low, middle)
        return high


def log_is_dirty(superblock: bytes, read: Read) -> bool:
    """Whether a mount has to write to the disk, by the superblock and the log of the file system."""
    log = _log_of(superblock, read)
    if log is None or log.cycle(0) == 0:  # never written
        return False
    head = log.head()
    begin = max(0, head - _BEFORE_HEAD)
    before = log.blocks_at(begin, head - begin)
    starts = range((head - begin - 1) * _BLOCK, -1, -_BLOCK)
    found = next((at for at in starts if before[at : at + 4] == _MAGIC.to_bytes(4, "big")), None)
    if found is None:
        return False
    record = before[found : found + _BLOCK]
    if len(record) < _BLOCK or record[304:320] != superblock[_UUID]:
        return False
    version, length = struct.unpack_from(">2I", record, 8)
    operations, size = struct.unpack_from(">I", record, 40)[0], struct.unpack_from(">I", record, 320)[0]
    headers = max(1, -(-size // _LARGEST_HEADER)) if version > 1 else 1
    if version not in (1, 2) or length == 0 or headers > _LARGEST_HEADER // _BLOCK:
        return False
    first = log.blocks_at(begin + found // _BLOCK + headers)
    return not (operations == 1 and len(first) > 9 and first[9] & _UNMOUNT)


def _log_of(superblock: bytes, read: Read) -> _Log | None:
    """The log inside the file system; None for an external one, and for numbers that cannot be right."""
    if len(superblock) < 264 or superblock[:4] != b"XFSB":
        return None
    (block,) = struct.unpack_from(">I", superblock, 4)
    (start,) = struct.unpack_from(">Q", superblock, 48)
    group, count = struct.unpack_from(">I", superblock, 84)[0], struct.unpack_from(">I", superblock, 96)[0]
    shift = superblock[124]
    if not start or block not in (1 << each for each in range(9, 17)) or not count or not 0 < shift < 32:
        return None
    place = (start >> shift) * group + (start & ((1 << shift) - 1))
    return _Log(read=read, begin=place * block, blocks=count * block // _BLOCK)
