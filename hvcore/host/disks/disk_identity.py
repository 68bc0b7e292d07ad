"""The identity of a disk, the same for all of its paths, and how this node uses the disk already.

QEMU's own image locks know only the inode. They do not see a second device node, a loop device over the same file, a
mapped device or array over the same disk, or a mount by the host; two writers destroy a file system.

A key can be the name of a file: ``file-DEVICE-INODE``, ``block-DEVICE`` or ``uri-HASH``. The key of a partition is that of
its disk, ``~`` and its number. A device made of others (dm, md) has its own key, then ``^`` and the key of each of those,
all the way down. Two devices made of the same one do not conflict: the volumes of a group share its disks. A directory's
key has those of the directories above it in the same way, so that only one inside the other conflicts.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.disks.loop_devices import LOOP_MAJOR, MappedFile, loop_devices, mapped_by
from hvcore.host.mount_table import mounts, unescaped
from hvcore.model.names import sha256_hex

__all__ = ["DiskId", "block_key", "disks_overlap", "host_use", "identify_disk", "overlap", "sharing", "used_as"]

_URI: Final = re.compile(r"[a-z][a-z0-9+.-]+:")
_URI_PREFIX: Final = "uri-"
_SYS: Final = Path("/sys")
_SWAPS: Final = Path("/proc/swaps")
_NAME_BYTES: Final = 200  # of the 255 of a file's name: some names have more than the key


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskId:
    """A disk's identity: ``key`` is equal for every path, link, device node and loop device of one disk."""

    key: str
    block_device: bool
    size_bytes: int

    @property
    def network(self) -> bool:
        """Whether it is a network disk, named by a URI, which this node's kernel does not know."""
        return self.key.startswith(_URI_PREFIX)


def identify_disk(path: str, *, directories: bool = False) -> DiskId:
    """The disk at ``path``. Raises OSError, with EINVAL if it is neither a regular file nor a block device.

    A URI has to be normalized by the caller, so that one disk has one URI. With ``directories``, a directory is a disk of
    size 0.
    """
    if _URI.match(path):
        name = sha256_hex(path.encode("utf-8", "surrogateescape"))[:40]
        return DiskId(key=f"{_URI_PREFIX}{name}", block_device=False, size_bytes=0)
    found = os.stat(path)
    if directories and stat.S_ISDIR(found.st_mode):
        return DiskId(key=_directory_key(path), block_device=False, size_bytes=0)
    if stat.S_ISREG(found.st_mode):
        return DiskId(key=_inode_key(found.st_dev, found.st_ino), block_device=False, size_bytes=found.st_size)
    if not stat.S_ISBLK(found.st_mode):
        raise OSError(errno.EINVAL, "neither a regular file nor a block device", path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.lseek(fd, 0, os.SEEK_END)
        behind = mapped_by(fd) if os.major(found.st_rdev) == LOOP_MAJOR else None
    finally:
        os.close(fd)
    key = _inode_key(*behind) if isinstance(behind, MappedFile) else block_key(behind or found.st_rdev)
    return DiskId(key=key, block_device=True, size_bytes=size)


def block_key(number: int, sys: Path = _SYS) -> str:
    """The key of a block device, from the sysfs at ``sys``. Raises OSError if the key would be too long."""
    own, made_of = _parts(number, sys)
    below = sorted(set(made_of))
    key = "^".join((own, *below))
    if len(key) <= _NAME_BYTES:
        return key
    raise OSError(errno.ENAMETOOLONG, f"is made of too many devices ({len(below)})")


def _parts(number: int, sys: Path) -> tuple[str, list[str]]:
    """The key without those of the devices below, and the keys of the devices that it is made of, all the way down."""
    disk, part = _whole(number, sys)
    behind = _behind(disk, sys)
    if isinstance(behind, int):
        own, below = _parts(behind, sys)
    elif behind is not None:
        own, below = _inode_key(*behind), []
    else:
        own, below = f"block-{os.major(disk)}-{os.minor(disk)}", []
        for slave in map(_number, _slaves(disk, sys)):
            its_own, its_below = _parts(slave, sys)
            below += [its_own, *its_below]
    return (own if part is None else f"{own}~{part}"), below


def _slaves(disk: int, sys: Path) -> list[Path]:
    try:
        return sorted((_place(disk, sys) / "slaves").iterdir())
    except OSError:
        return []


def _whole(number: int, sys: Path) -> tuple[int, str | None]:
    """The disk of a partition and the partition's number; for any other device, itself and None."""
    here = _place(number, sys)
    try:
        part = (here / "partition").read_text().strip()
        return _number(here.resolve().parent), part
    except (OSError, ValueError):
        return number, None


def _behind(number: int, sys: Path = _SYS) -> MappedFile | int | None:
    """What a loop device maps; None for any other device."""
    if os.major(number) != LOOP_MAJOR:
        return None
    try:
        fd = os.open(_device(number, sys), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return mapped_by(fd)
    finally:
        os.close(fd)


def _mapped(number: int) -> Iterator[int]:
    """The device and, for a loop device over a device, that one, all the way down: they have the same blocks."""
    behind: MappedFile | int | None = number
    while isinstance(behind, int):
        yield behind
        behind = _behind(behind)


def _device(number: int, sys: Path = _SYS) -> str:
    return f"/dev/{_place(number, sys).resolve().name}"


def _place(number: int, sys: Path) -> Path:
    return sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}"


def _number(here: Path) -> int:
    major, minor = map(int, (here / "dev").read_text().split(":"))
    return os.makedev(major, minor)


def disks_overlap(one: DiskId, other: DiskId) -> bool:
    """Whether two disks share blocks: by links, device nodes, loop devices, partitions, or devices made of others."""
    return overlap(one.key, other.key)


def overlap(one: str, other: str) -> bool:
    """Whether two keys share blocks: they are equal, one is a partition of the other, or one is made of the other."""
    (own, *below), (others, *others_below) = one.split("^"), other.split("^")
    pairs = ((own, others), *((own, key) for key in others_below), *((others, key) for key in below))
    return any(a == b or a.startswith(f"{b}~") or b.startswith(f"{a}~") for a, b in pairs)


def sharing(names: Iterable[str], key: str) -> list[str]:
    """The names of reservations whose key, the part before the first dot, shares blocks with ``key``.

    `overlap` is slow. So it is called only for a name that contains the first part of ``key``, or whose first part is one
    of the others.
    """
    own, *below = (_disk_of(part) for part in key.split("^"))
    whole = re.compile(f"{re.escape(own)}(?![0-9])")  # not inode 12 for inode 1
    near = [name for name in names if (own in name and whole.search(name)) or (below and _disk_of(name) in below)]
    return [name for name in near if overlap(name.partition(".")[0], key)]


def _disk_of(name: str) -> str:
    """The first part of a key, without a partition's number."""
    return name.partition(".")[0].partition("^")[0].partition("~")[0]


def _inode_key(device: int, inode: int) -> str:
    return f"file-{os.major(device)}-{os.minor(device)}-{inode}"


def _directory_key(path: str) -> str:
    """The keys of the directory and those above it, the nearest first, as many as a name has room for."""
    key = ""
    place = os.path.realpath(path)
    while True:
        found = os.stat(place)
        longer = f"{key}^{_inode_key(found.st_dev, found.st_ino)}".lstrip("^")
        if len(longer) > _NAME_BYTES:
            return key
        key, above = longer, os.path.dirname(place)
        if above == place:
            return key
        place = above


def host_use(path: str, disk: DiskId, swaps: Path = _SWAPS) -> str | None:
    """How the host itself uses the disk (mounted, swap, part of a volume), in words; None if it does not.

    An attached loop device counts as well: it may be mounted at any moment. The host does not know network disks.
    """
    if disk.network:
        return None
    if _is_swap(path, swaps):
        return "the host, as swap"
    own = os.stat(path).st_rdev if disk.block_device else None
    mapped = [] if own is None else list(_mapped(own))
    for number in mapped:
        where = _mounted_at(number)
        used = f"the host, mounted at {where}" if where else _exclusive_use(path if number == own else _device(number))
        if used is not None:
            return used
    # Not the loop devices that this one is made of: it does not conflict with itself.
    made_of = {device for number in mapped for device in _mapped(_whole(number, _SYS)[0])}
    for loop in loop_devices():
        number = os.stat(loop).st_rdev
        if number not in {*mapped, *made_of} and _shares(number, disk):
            where = _mounted_at(number)
            return f"the host, attached as {loop}" + (f" and mounted at {where}" if where else "")
    return None


def _shares(loop: int, disk: DiskId) -> bool:
    """Whether a loop device maps the disk, a part of it, a disk that this one is a part of, or what it is made of."""
    return overlap(block_key(loop), disk.key)


def _is_swap(path: str, swaps: Path) -> bool:
    """Whether the kernel swaps to it. It holds block devices with O_EXCL, but files are open to writers."""
    try:
        lines = swaps.read_bytes().splitlines()[1:]
    except FileNotFoundError:  # a kernel without swap
        return False
    for line in lines:
        try:
            if os.path.samefile(unescaped(line.split()[0]), path):
                return True
        except OSError:
            continue  # deleted
    return False


def _mounted_at(device: int) -> str | None:
    number = os.major(device), os.minor(device)
    return next((mount.point for mount in reversed(mounts()) if mount.device == number), None)


def _exclusive_use(path: str) -> str | None:
    # Mounts, swap, md, lvm and other programs hold block devices with O_EXCL, which the kernel allows one of them.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return "the host (swap, a volume group, or another program)"
        raise
    os.close(fd)
    return None


def used_as(path: str, disk: DiskId) -> dict[str, int]:
    """The block devices that the disk is used as now, with their numbers: itself, or the loop devices over it."""
    if disk.network:
        return {}
    numbers = {device: os.stat(device).st_rdev for device in ([path] if disk.block_device else loop_devices())}
    return {device: number for device, number in numbers.items() if disk.block_device or _shares(number, disk)}
