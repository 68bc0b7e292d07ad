"""Mounts as descriptors (open_tree(2), mount_setattr(2), move_mount(2); Linux 5.12): made, changed, then attached.

A mount is attached to a descriptor of its mount point. No path is resolved again, so no link in an image can lead it
elsewhere.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hvcore.plugin import dataclass, libc_call, system_call

__all__ = ["Allowed", "attach", "cloned_tree", "mount_overlay", "mount_tmpfs", "unmount", "unmount_unused"]

# The same on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 1  # linux/mount.h, like all that follows
_FROM_AND_TO_ARE_DESCRIPTORS: Final = 0x04 | 0x40
_RDONLY, _NOSUID, _NODEV = 0x01, 0x02, 0x04  # MS_ and MOUNT_ATTR_ alike
_ATTR_IDMAP: Final = 0x100000
_ATTR_NODIRATIME: Final = 0x80  # the sign of a writer, see `hvcore.plugin.shield`; a reader does not inherit it
_MS_NOEXEC, _MS_PRIVATE = 8, 1 << 18
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a mount allows besides reading: writing, set-uid programs, device nodes.

    Only the instance's own processes write: for the node the mount is read-only from its first moment (`hv.shield`).
    """

    write: bool = True
    suid: bool = False
    devices: bool = False

    @property
    def flags(self) -> int:
        """The flags of mount(2) that forbid the rest."""
        return (0 if self.write else _RDONLY) | (0 if self.suid else _NOSUID) | (0 if self.devices else _NODEV)

    def attributes(self, *, shielded: bool) -> tuple[int, int]:
        """The flags of mount_setattr(2) to set and to clear: `flags`, and the shield of a writer."""
        shield = _RDONLY | _ATTR_NODIRATIME
        if self.write and not shielded:
            return self.flags, shield
        return (self.flags | shield, 0) if self.write else (self.flags, _ATTR_NODIRATIME)


@contextmanager
def cloned_tree(path: str, allowed: Allowed, *, users_fd: int | None = None, shielded: bool = True) -> Iterator[int]:
    """A copy of the mount at ``path``, without those below it; mounted nowhere, shared with no other mount namespace.

    ``users_fd``, a user namespace, shifts the owners of the files: uid 0 on the file system is uid 0 of that namespace.
    Not ``shielded``, it is for the mounts of the instance's processes. Raises OSError.
    """
    fd = system_call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        flags, cleared = allowed.attributes(shielded=shielded)
        flags |= _ATTR_IDMAP if users_fd is not None else 0
        attributes = struct.pack("QQQQ", flags, cleared, _MS_PRIVATE, users_fd or 0)
        system_call(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, attributes, len(attributes))
        yield fd
    finally:
        os.close(fd)


def attach(tree: int, target: int) -> None:
    """Mount a copy onto the descriptor ``target``: a directory onto a directory, a file onto a file."""
    system_call(_MOVE_MOUNT, tree, b"", target, b"", _FROM_AND_TO_ARE_DESCRIPTORS)


def mount_tmpfs(target: str, options: str, *, programs: bool) -> None:
    """An empty file system in memory, with those options of tmpfs(5). Raises OSError."""
    _mount("tmpfs", target, _NOSUID | _NODEV | (0 if programs else _MS_NOEXEC), options)


def mount_overlay(target: str, allowed: Allowed, *, lower: int, upper: int, work: int) -> None:
    """Show the directory ``lower`` and keep changes to it in ``upper``; all three are descriptors. Raises OSError.

    Not by path: overlayfs gives commas, colons and backslashes in a path a meaning.
    """
    names = {"lowerdir": lower, "upperdir": upper, "workdir": work}
    options = ",".join(f"{name}=/proc/self/fd/{fd}" for name, fd in names.items())
    _mount("overlay", target, allowed.flags, options)


def unmount(target: str) -> None:
    """Unmount the last mount at that path, from this mount namespace. Raises OSError."""
    libc_call("umount2", os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW)


def unmount_unused(target: str) -> None:
    """The same, if no process uses it. Raises OSError."""
    libc_call("umount2", os.fsencode(target), _UMOUNT_NOFOLLOW)


def _mount(kind: str, target: str, flags: int, options: str) -> None:
    place = os.fsencode(target)
    libc_call("mount", b"hvcore", place, kind.encode(), flags, os.fsencode(options), path=target)
    libc_call("mount", None, place, None, _MS_PRIVATE, None, path=target)
