"""The log of an XFS file system, written by hand as fs/xfs/libxfs/xfs_log_format.h describes it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.host.disks.disk_contents import contents_of
from hvcore.host.disks.xfs_log import log_is_dirty

BLOCK, GROUP, SHIFT = 4096, 1024, 10
LOG_GROUP, LOG_AT, LOG_COUNT = 2, 7, 128  # blocks of the file system: 1024 blocks of the log
LOG_BLOCKS = LOG_COUNT * BLOCK // 512
UUID = bytes(range(16))
UNMOUNT, COMMIT = 0x20, 0x02


def superblock(start: int = LOG_GROUP << SHIFT | LOG_AT) -> bytes:
    block = bytearray(512)
    struct.pack_into(">4sIQ", block, 0, b"XFSB", BLOCK, 4 * GROUP)
    block[32:48] = UUID
    struct.pack_into(">Q", block, 48, start)
    struct.pack_into(">I", block, 84, GROUP)
    struct.pack_into(">I", block, 96, LOG_COUNT)
    block[124] = SHIFT
    return bytes(block)


def record(
    cycle: int, flags: int, *, operations: int = 1, blocks: int = 1, size: int = 32768, version: int = 2
) -> bytes:
    """A record: its header of one block for each 32 KiB, then its operations; each block begins with the cycle."""
    header = bytearray(512)
    struct.pack_into(">4I", header, 0, 0xFEEDBABE, cycle, version, blocks * 512)
    struct.pack_into(">I", header, 40, operations)
    header[304:320] = UUID
    struct.pack_into(">I", header, 320, size)
    more = struct.pack(">I", cycle).ljust(512, b"\0") * (max(1, size // 32768) - 1 if version > 1 else 0)
    first = struct.pack(">2I2B", cycle, 8, 0xAA, flags).ljust(512, b"\0")
    return bytes(header) + more + first + struct.pack(">I", cycle).ljust(512, b"\1") * (blocks - 1)


def log(*written: bytes, before: int = 0) -> bytes:
    """A log whose last cycle has these records; ``before`` is the cycle of the rest."""
    new = b"".join(written)
    return new + struct.pack(">I", before).ljust(512, b"\0") * (LOG_BLOCKS - len(new) // 512)


def disk(path: Path, content: bytes, **of: int) -> str:
    with path.open("wb") as file:
        file.write(superblock(**of))
        file.seek((LOG_GROUP * GROUP + LOG_AT) * BLOCK)
        file.write(content)
        file.truncate(4 * GROUP * BLOCK)
    return str(path)


MOUNTED = record(1, UNMOUNT), record(1, COMMIT, operations=9, blocks=3)
FULL = tuple(record(5, COMMIT, operations=3) for _ in range(LOG_BLOCKS // 2 - 1))


@pytest.mark.parametrize(
    ("content", "dirty"),
    [
        (log(record(1, UNMOUNT)), False),  # as mkfs.xfs leaves it
        (log(*MOUNTED), True),
        (log(*MOUNTED, record(1, UNMOUNT)), False),
        (log(record(7, COMMIT, operations=5, blocks=40), before=6), True),
        (log(record(7, COMMIT, operations=5, blocks=40), record(7, UNMOUNT), before=6), False),
        (log(record(7, COMMIT, operations=1), before=6), True),
        (log(record(7, UNMOUNT, operations=2), before=6), True),
        (log(record(3, UNMOUNT, size=262144), before=2), False),
        (log(record(3, COMMIT, size=262144, operations=4), before=2), True),
        (log(record(3, UNMOUNT, version=1), before=2), False),
        (log(*FULL, record(5, UNMOUNT)), False),
        (log(*FULL, record(5, COMMIT, operations=3)), True),
        (log(), False),  # zeros: never written
    ],
)
def test_a_log_without_an_unmount_at_its_end_is_dirty(tmp_path: Path, content: bytes, dirty: bool) -> None:  # noqa: FBT001
    found = contents_of(disk(tmp_path / "disk", content))
    assert found is not None
    assert (found.name, found.dirty) == ("xfs", dirty)


@pytest.mark.parametrize(
    "content",
    [
        log(record(9, COMMIT, operations=9).replace(UUID, bytes(16)), before=8),  # of an earlier file system
        log(struct.pack(">I", 9).ljust(512, b"\0") * 3, before=8),  # the header is before the wrap
        b"\xff" * (LOG_BLOCKS * 512),
    ],
)
def test_what_is_not_understood_is_not_called_dirty(tmp_path: Path, content: bytes) -> None:
    found = contents_of(disk(tmp_path / "disk", content))
    assert found is not None
    assert not found.dirty


def test_an_external_log_and_a_disk_that_is_cut_off_are_not_called_dirty(tmp_path: Path) -> None:
    assert not log_is_dirty(superblock(start=0), lambda size, at: bytes(size))
    assert not log_is_dirty(superblock(), lambda size, at: b"")
    path = disk(tmp_path / "disk", log(*MOUNTED))
    with open(path, "r+b") as file:
        file.truncate(BLOCK)
    found = contents_of(path)
    assert found is not None
    assert not found.dirty


@given(st.binary(max_size=512), st.binary(max_size=2048))
def test_no_bytes_raise(head: bytes, content: bytes) -> None:
    log_is_dirty(b"XFSB" + head, lambda size, at: content[at % 2048 :][:size])
    whole = bytearray(superblock())
    whole[4 : 4 + len(head)] = head
    log_is_dirty(bytes(whole), lambda size, at: content[:size])
