"""What the first bytes of a disk say that it contains: an image format, a compressed file, a file system, partitions.

Nothing is run and nothing is mounted: 68 KiB are read, and of XFS some blocks of its log.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.disks.xfs_log import log_is_dirty

__all__ = ["Contents", "Holds", "contents_of", "recognized"]

_HEAD_BYTES: Final = 68 << 10
_SECTOR: Final = 512
_BOOT_SIGNATURE: Final = b"\x55\xaa"
_PROTECTIVE: Final = 0xEE
_EXT_AT: Final = 1024
_EXT_MAGIC: Final = b"\x53\xef"
_EXT_NEEDS_RECOVERY: Final = 0x4  # fs/ext4/ext4.h, incompatible features
_EXT_64BIT: Final = 0x80
_BTRFS_LOG_ROOT: Final = slice(65536 + 96, 65536 + 104)  # of the tree with what was written since the last commit
_EXT_META_ONLY: Final = 0x8  # a journal alone, of another file system


class Holds(StrEnum):
    """The class of contents."""

    IMAGE = "image"
    PACKED = "packed"
    FILESYSTEM = "file system"
    PARTITIONS = "partitions"
    VOLUME = "volume"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a disk contains: its class, its ``name`` in tools (``qcow2``, ``gzip``, ``ext4``), and words for a message.

    ``needs_bytes`` is the size that a file system has, 0 if unknown. ``dirty`` says that its journal has to be replayed.
    """

    holds: Holds
    name: str
    words: str
    needs_bytes: int = 0
    dirty: bool = False


# (offset, bytes, class, name, words). The first that matches counts: file systems before boot sectors.
_MAGIC: Final = (
    (0, b"QFI\xfb", Holds.IMAGE, "qcow2", "a qcow2 image"),
    (0, b"KDMV", Holds.IMAGE, "vmdk", "a vmdk image"),
    (0, b"COWD", Holds.IMAGE, "vmdk", "a vmdk image"),
    (0, b"# Disk DescriptorFile", Holds.IMAGE, "vmdk", "the description of a vmdk image"),
    (0, b"vhdxfile", Holds.IMAGE, "vhdx", "a vhdx image"),
    (0, b"conectix", Holds.IMAGE, "vpc", "a vhd image"),
    (64, b"\x7f\x10\xda\xbe", Holds.IMAGE, "vdi", "a vdi image"),
    (0, b"QED\0", Holds.IMAGE, "qed", "a qed image"),
    (0, b"WithoutFreeSpace", Holds.IMAGE, "parallels", "a parallels image"),
    (0, b"WithouFreSpacExt", Holds.IMAGE, "parallels", "a parallels image"),
    (0, b"\x1f\x8b\x08", Holds.PACKED, "gzip", "compressed with gzip"),
    (0, b"\xfd7zXZ\0", Holds.PACKED, "xz", "compressed with xz"),
    (0, b"\x28\xb5\x2f\xfd", Holds.PACKED, "zstd", "compressed with zstd"),
    (0, b"BZh", Holds.PACKED, "bzip2", "compressed with bzip2"),
    (0, b"PK\x03\x04", Holds.PACKED, "zip", "a zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", Holds.PACKED, "7z", "a 7z archive"),
    (257, b"ustar", Holds.PACKED, "tar", "a tar archive"),
    (0, b"LUKS\xba\xbe", Holds.VOLUME, "luks", "encrypted (LUKS)"),
    (512, b"LABELONE", Holds.VOLUME, "lvm", "a physical volume of LVM"),
    (4096, b"\xfc\x4e\x2b\xa9", Holds.VOLUME, "raid", "a member of a RAID array"),
    (4086, b"SWAPSPACE2", Holds.VOLUME, "swap", "swap space"),
    (0, b"XFSB", Holds.FILESYSTEM, "xfs", "an XFS file system"),
    (65600, b"_BHRfS_M", Holds.FILESYSTEM, "btrfs", "a Btrfs file system"),
    (0, b"hsqs", Holds.FILESYSTEM, "squashfs", "a SquashFS file system"),
    (1024, b"\xe2\xe1\xf5\xe0", Holds.FILESYSTEM, "erofs", "an EROFS file system"),
    (1024, b"\x10\x20\xf5\xf2", Holds.FILESYSTEM, "f2fs", "an F2FS file system"),
    (32769, b"CD001", Holds.FILESYSTEM, "iso9660", "an ISO 9660 file system"),
    (3, b"NTFS    ", Holds.FILESYSTEM, "ntfs", "an NTFS file system"),
    (54, b"FAT1", Holds.FILESYSTEM, "vfat", "a FAT file system"),
    (82, b"FAT32", Holds.FILESYSTEM, "vfat", "a FAT file system"),
)


def contents_of(path: str) -> Contents | None:
    """What the file or device at ``path`` contains; None when its first bytes are not known. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        head = os.pread(fd, _HEAD_BYTES, 0)
        found = recognized(head)
        if (
            found is not None
            and found.name == "xfs"
            and log_is_dirty(head[:_SECTOR], lambda size, at: os.pread(fd, size, at))
        ):
            return replace(found, dirty=True)
        return found
    finally:
        os.close(fd)


def recognized(head: bytes) -> Contents | None:
    """What a disk with these first bytes contains; None when they are not known. Pure, never raises."""
    if head and not any(head):
        words = f"empty: its first {len(head)} bytes are zeros"
        return Contents(holds=Holds.NOTHING, name="zeros", words=words)
    ext = _ext(head)
    if ext is not None:
        return ext
    for offset, magic, holds, name, words in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            needs = _SIZES[name](head) if name in _SIZES else 0
            dirty = name == "btrfs" and any(head[_BTRFS_LOG_ROOT])
            return Contents(holds=holds, name=name, words=words, needs_bytes=needs, dirty=dirty)
    return _partitions(head)


def _ext(head: bytes) -> Contents | None:
    block = head[_EXT_AT : _EXT_AT + 1024]
    if len(block) < 1024 or block[56:58] != _EXT_MAGIC:
        return None
    blocks, log_block = struct.unpack_from("<I", block, 4)[0], struct.unpack_from("<I", block, 24)[0]
    compatible, incompatible = struct.unpack_from("<2I", block, 92)
    if log_block > 6 or incompatible & _EXT_META_ONLY:
        return None
    if incompatible & _EXT_64BIT:
        blocks |= struct.unpack_from("<I", block, 0x150)[0] << 32
    name = "ext4" if incompatible & ~0x6 else "ext3" if compatible & 0x4 else "ext2"
    dirty = bool(incompatible & _EXT_NEEDS_RECOVERY)
    words = f"an {name} file system"
    return Contents(holds=Holds.FILESYSTEM, name=name, words=words, needs_bytes=blocks << (10 + log_block), dirty=dirty)


def _xfs_bytes(head: bytes) -> int:
    block, blocks = struct.unpack_from(">IQ", head.ljust(16, b"\0"), 4)
    return int(block * blocks)


def _squashfs_bytes(head: bytes) -> int:
    return int(struct.unpack_from("<Q", head.ljust(48, b"\0"), 40)[0])


_SIZES: Final[dict[str, Callable[[bytes], int]]] = {"xfs": _xfs_bytes, "squashfs": _squashfs_bytes}


def _partitions(head: bytes) -> Contents | None:
    """A partition table: of GPT with 512 or 4096 bytes to a sector, or of an MBR with at least one valid entry."""
    for sector in (_SECTOR, 4096):
        if head[sector : sector + 8] == b"EFI PART":
            return Contents(holds=Holds.PARTITIONS, name="gpt", words="a whole disk with partitions (GPT)")
    if head[510:512] != _BOOT_SIGNATURE:
        return None
    entries = [head[start : start + 16] for start in range(446, 510, 16)]
    used = [entry for entry in entries if entry[4]]
    if not used or any(entry[0] not in (0, 0x80) for entry in entries):
        return None  # a boot sector alone
    if any(not struct.unpack_from("<I", entry, 12)[0] for entry in used):
        return None
    name = "gpt" if any(entry[4] == _PROTECTIVE for entry in used) else "mbr"
    return Contents(holds=Holds.PARTITIONS, name=name, words=f"a whole disk with partitions ({name.upper()})")
