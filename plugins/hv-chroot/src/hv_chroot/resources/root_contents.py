"""Why a disk cannot be mounted as a root, from its first bytes: before a mount is tried."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from hvcore.plugin import Contents, Holds, contents_of

__all__ = ["contents_problem", "what_it_contains"]

_RAW: Final = "convert it with qemu-img convert -O raw; a root also needs a file system without partitions"
_TODO: Final = {
    "tar": "unpack it into a directory, and set params.root_directory to that",
    "luks": "open it with cryptsetup open, and give /dev/mapper/NAME",
    "lvm": "give a logical volume of its volume group",
    "raid": "assemble the array with mdadm, and give its device",
    "swap": "give another, or put a root file system on it",
}


def contents_problem(path: str, size_bytes: int, *, read_only: bool) -> tuple[str, str] | None:
    """What keeps the disk from being mounted, and what to do; None if nothing is known. Raises OSError."""
    found = contents_of(path)
    if found is None:
        return None
    if found.holds is Holds.FILESYSTEM:
        return _file_system_problem(found, path, size_bytes, read_only=read_only)
    if found.holds is Holds.NOTHING:
        return f"is {found.words}", "put a root file system on it"
    if found.holds is Holds.PARTITIONS:
        todo = "give the device of one partition; losetup --partscan --show -f makes devices for those of a file"
        return f"is {found.words}, and a root is the file system of one", todo
    if found.holds is Holds.IMAGE:
        return f"is {found.words}, which cannot be mounted", _RAW
    return f"is {found.words}", _TODO.get(found.name, "unpack it first")


def _file_system_problem(found: Contents, path: str, size_bytes: int, *, read_only: bool) -> tuple[str, str] | None:
    if found.needs_bytes > size_bytes:
        what = f"is cut off: {found.words} of {found.needs_bytes} bytes on a disk of {size_bytes}"
        return what, "copy it again, or enlarge the disk"
    if found.dirty and read_only and not _journal_can_be_replayed(path):
        what = f"has {found.words} whose journal was not replayed, and a read-only disk cannot be written for that"
        by_mount = found.name in ("xfs", "btrfs")
        return what, "mount it once read-write, and unmount it" if by_mount else f"replay it with e2fsck -p {path!r}"
    return None


def _journal_can_be_replayed(path: str) -> bool:
    """Whether the kernel may write to the disk in a read-only mount: not through the read-only loop device of a file."""
    found = os.stat(path)
    if not stat.S_ISBLK(found.st_mode):
        return False
    try:
        number = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        return Path("/sys/dev/block", number, "ro").read_text().strip() == "0"
    except OSError:
        return True


def what_it_contains(path: str) -> str:
    """What is known of its contents, in words for the error of a mount that failed."""
    try:
        found = contents_of(path)
    except OSError:
        return "which cannot be read"
    return f"which has {found.words}" if found is not None else "on which no known file system was found"
