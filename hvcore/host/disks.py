"""What a disk *is*, and who on this node uses it already, whatever its path.

QEMU's own image locks know only the inode. They do not see a second device node, a loop device over
the same file, or a mount by the host; two writers on one file system destroy it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hvcore.host.mounts import mounted_devices

__all__ = ["DiskId", "host_use", "identify_disk", "loops_over", "overlap"]

_LOOP_GET_STATUS64: Final = 0x4C05  # linux/loop.h
_LOOP_INFO64_BYTES: Final = 232
_LOOP_MAJOR: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskId:
    """A disk's identity: ``key`` is equal for every path, link, device node and loop device that leads to it."""

    key: str
    block_device: bool
    size_bytes: int


def identify_disk(path: str) -> DiskId:
    """What ``path`` leads to. Raises OSError, with EINVAL when it is neither a regular file nor a block device."""
    found = os.stat(path)
    if stat.S_ISREG(found.st_mode):
        return DiskId(key=_inode_key(found.st_dev, found.st_ino), block_device=False, size_bytes=found.st_size)
    if not stat.S_ISBLK(found.st_mode):
        raise OSError(errno.EINVAL, "neither a regular file nor a block device", path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        backing = _loop_backing(fd) if os.major(found.st_rdev) == _LOOP_MAJOR else None
    finally:
        os.close(fd)
    key = backing or _block_key(found.st_rdev)
    return DiskId(key=key, block_device=True, size_bytes=size)


def _block_key(number: int) -> str:
    """The key of a block device; of a partition, that of its disk with ``~`` and the partition's number."""
    here = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    try:
        part = (here / "partition").read_text().strip()
        major, minor = map(int, (here.resolve().parent / "dev").read_text().split(":"))
    except (OSError, ValueError):
        return f"block-{os.major(number)}-{os.minor(number)}"
    whole = os.makedev(major, minor)
    backing = _loop_key(f"/dev/{here.resolve().parent.name}") if major == _LOOP_MAJOR else None
    return f"{backing or _block_key(whole)}~{part}"


def overlap(one: str, other: str) -> bool:
    """Whether two keys share blocks: they are equal, or one is a disk and the other a partition of it."""
    return one == other or one.startswith(f"{other}~") or other.startswith(f"{one}~")


def _inode_key(device: int, inode: int) -> str:
    return f"file-{os.major(device)}-{os.minor(device)}-{inode}"


def _loop_backing(fd: int) -> str | None:
    """The identity of the file behind a loop device, or None when nothing is behind it."""
    info = bytearray(_LOOP_INFO64_BYTES)
    try:
        fcntl.ioctl(fd, _LOOP_GET_STATUS64, info)
    except OSError:
        return None
    device, inode = struct.unpack_from("QQ", info)
    # The kernel packs lo_device with new_encode_dev or huge_encode_dev: the same split that os.major and os.minor undo.
    return _inode_key(device, inode)


def host_use(path: str, disk: DiskId) -> str | None:
    """How the host itself uses the disk (mounted, swap, part of a volume), in words, or None when it does not.

    A loop device that is only attached counts as well: whoever attached it may mount it at any moment.
    """
    own = os.stat(path).st_rdev if disk.block_device else None
    if own is not None:
        where = _mounted_at(own)
        used = f"the host, mounted at {where}" if where is not None else _claimed(path)
        if used is not None:
            return used
    for name in _loops():
        # The loop device that was asked for is not in the way of itself, a second one over its file is.
        if _loop_key(f"/dev/{name}") == disk.key and os.stat(f"/dev/{name}").st_rdev != own:
            where = _mounted_at(os.stat(f"/dev/{name}").st_rdev)
            return f"the host, attached as /dev/{name}" + (f" and mounted at {where}" if where else "")
    return None


def _mounted_at(device: int) -> str | None:
    return mounted_devices().get((os.major(device), os.minor(device)))


def _claimed(path: str) -> str | None:
    # Mounts, swap, md, lvm and other programs hold block devices with O_EXCL, and the kernel lets one do so.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return "the host (swap, a volume group, or another program)"
        raise
    os.close(fd)
    return None


def loops_over(disk: DiskId) -> set[int]:
    """The device numbers of the loop devices that are attached to that file."""
    return {os.stat(f"/dev/{name}").st_rdev for name in _loops() if _loop_key(f"/dev/{name}") == disk.key}


def _loops() -> list[str]:
    try:
        names = os.listdir("/sys/block")
    except FileNotFoundError:
        return []
    return [name for name in names if name.startswith("loop") and Path("/sys/block", name, "loop").is_dir()]


def _loop_key(device: str) -> str | None:
    try:
        fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _loop_backing(fd)
    finally:
        os.close(fd)
