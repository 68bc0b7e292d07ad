"""Mounts that only an instance can write to.

The mounts of an instance are in its directory, where its processes find their root and where a release finds everything.
An operator who deletes the run directory must not delete the files of a root or of a bind. So in the node's mount
namespace these mounts are *shielded*: read-only, and with the flag ``nodiratime`` as the sign that the instance writes.
The processes of the instance are started in their own mount namespace, in which the shield is taken off again.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

from hvcore.host.libc import libc_call, system_call
from hvcore.host.mount_table import Mount, mounts_at_or_below, parse_mountinfo
from hvcore.host.threads import in_thread

__all__ = ["in_own_mounts", "root_in_mounts_of", "shield", "shield_mount"]

T = TypeVar("T")

_MOUNT_SETATTR: Final = 442  # the same on every architecture; Linux 5.12
_AT_EMPTY_PATH: Final = 0x1000
_SHIELD: Final = 0x01 | 0x80  # MOUNT_ATTR_RDONLY and MOUNT_ATTR_NODIRATIME of linux/mount.h
_CLONE_NEWNS: Final = 0x00020000  # linux/sched.h
_MS_SLAVE_REC: Final = (1 << 19) | 0x4000
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/proc", "/sys", "/dev", "/nix", "/gnu")


def shield(directory: Path) -> None:
    """Make every writable mount at or below the directory read-only for the node. Raises OSError.

    A mount that another one covers keeps its flags: no path leads to it.
    """
    for mount in mounts_at_or_below(str(directory.resolve())):
        if not mount.read_only:
            with _opened(mount) as fd:
                if fd is not None:
                    shield_mount(fd)


def shield_mount(fd: int) -> None:
    """Make the mount of that descriptor, of its root directory or file, read-only for the node. Raises OSError."""
    _change(fd, add=_SHIELD)


def in_own_mounts(directory: Path, call: Callable[[], T], *, like: int | None = None, also: tuple[str, ...] = ()) -> T:
    """The result of the call in a mount namespace in which the mounts below an instance's directory are writable again.

    Processes that the call starts stay in that namespace. It has only the mounts that a command of the node needs: copies
    of others would keep their disks in use after an unmount. The call can also use the paths ``also``. With the pid
    ``like`` it is the namespace of that process, as it is. Raises OSError, and what the call raises.
    """

    def run() -> T:
        _enter(directory.resolve(), like, also)
        return call()

    return in_thread(run, name="own mounts")  # a thread can have its own mount namespace, and its children get the same


def root_in_mounts_of(pid: int) -> str:
    """A path to our root directory in the mount namespace of a process whose root is below it. Raises OSError.

    Who enters a mount namespace gets that namespace's root. From a chroot, all paths would then lead to files outside.
    """
    ours, path, found = _identity("/"), f"/proc/{pid}/root", None
    here = _identity(path)
    while True:  # to the top: a root can be a bind mount of ours
        found = path if here == ours else found
        above = _identity(f"{path}/..")
        if above == here:
            break
        path, here = f"{path}/..", above
    if found is None:
        raise FileNotFoundError(errno.ENOENT, f"pid {pid} has no mounts below our root")
    return found


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _enter(directory: Path, like: int | None, also: tuple[str, ...]) -> None:
    libc_call("unshare", _CLONE_NEWNS)
    if like is not None:
        fd = os.open(f"/proc/{like}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            root = os.open(root_in_mounts_of(like), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                libc_call("setns", fd, _CLONE_NEWNS)  # this also leaves a chroot
                os.fchdir(root)
                os.chroot(".")
            finally:
                os.close(root)
        finally:
            os.close(fd)
        return
    try:
        libc_call("mount", None, b"/", None, _MS_SLAVE_REC, None)
        shared = False
    except OSError:  # EINVAL: the root is not a mount
        shared = True
    for mount in reversed(_table()):
        if _leads(str(directory), mount.point):
            _take_off(mount)
        elif not _is_needed(mount.point, directory, also) and not (shared and mount.shared):
            with suppress(OSError):
                libc_call("umount2", os.fsencode(mount.point), _MNT_DETACH | _UMOUNT_NOFOLLOW)


def _is_needed(point: str, directory: Path, also: tuple[str, ...]) -> bool:
    """Whether a command needs that mount: programs, libraries, files of the kernel, and all that lead to the paths."""
    system = (*_SYSTEM, sys.prefix, sys.base_prefix)
    wanted = (str(directory), *also)
    return any(_leads(point, place) or _leads(place, point) for place in system) or any(
        _leads(point, place) for place in wanted
    )


def _leads(above: str, below: str) -> bool:
    return above == below or below.startswith(f"{above.rstrip('/')}/")


def _table() -> list[Mount]:
    return parse_mountinfo(Path("/proc/thread-self/mountinfo").read_bytes())


def _take_off(mount: Mount) -> None:
    if mount.shielded:
        with _opened(mount) as fd:
            if fd is not None:
                _change(fd, remove=_SHIELD)


@contextmanager
def _opened(mount: Mount) -> Iterator[int | None]:
    """A descriptor of the root of exactly that mount; None when its path leads to another one."""
    fd = os.open(mount.point, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = Path(f"/proc/thread-self/fdinfo/{fd}").read_text().splitlines()
        yield fd if f"mnt_id:\t{mount.id}" in facts else None
    finally:
        os.close(fd)


def _change(fd: int, *, add: int = 0, remove: int = 0) -> None:
    """Change the flags of the mount: mount_setattr(2)."""
    attributes = struct.pack("QQQQ", add, remove, 0, 0)
    system_call(_MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH, attributes, len(attributes))
