"""Loop devices: which there are, and what each maps."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final, NamedTuple

__all__ = ["LOOP_MAJOR", "MappedFile", "loop_devices", "mapped_by"]

LOOP_MAJOR: Final = 7
_GET_STATUS64: Final = 0x4C05  # linux/loop.h
_INFO64_BYTES: Final = 232


class MappedFile(NamedTuple):
    """A regular file, by the number of its file system's device and its inode."""

    device: int
    inode: int


def loop_devices() -> list[str]:
    """The paths of the loop devices that map something."""
    try:
        names = os.listdir("/sys/block")
    except FileNotFoundError:
        return []
    return [f"/dev/{name}" for name in names if name.startswith("loop") and os.path.isdir(f"/sys/block/{name}/loop")]


def mapped_by(fd: int) -> MappedFile | int | None:
    """What the loop device open as ``fd`` maps: a file, or the number of a block device. None if it maps nothing."""
    info = bytearray(_INFO64_BYTES)
    try:
        fcntl.ioctl(fd, _GET_STATUS64, info)
    except OSError:
        return None
    # The kernel packs devices with new_encode_dev or huge_encode_dev: the same split that os.major and os.minor undo.
    device, inode, mapped = struct.unpack_from("QQQ", info)
    # For a block device, the first two are those of its node, and it can have several nodes. For a file, the third is
    # the first again (drivers/block/loop.c).
    return MappedFile(device, inode) if mapped in (0, device) else int(mapped)
