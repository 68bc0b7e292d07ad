"""The mounts of our mount namespace, from /proc/self/mountinfo (proc(5)), and the claims on directories that they are.

A directory that an instance uses as a whole is mounted in the instance's own directory for as long as it is in use. That
mount is the claim, for the whole node and not only for one run directory: it ends with the mount, also after a crash,
and no process inherits it.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from hvcore.errors import DiskInUseError, LeftoverError, NodeError
from hvcore.model.record import RECORD_FILE

__all__ = [
    "Mount",
    "claim_mount",
    "mounted_devices",
    "mounts",
    "mounts_at_or_below",
    "other_users",
    "parse_mountinfo",
    "unescaped",
    "unmount_below",
]

_UMOUNT_NOFOLLOW: Final = 8  # linux/fs.h
_INSTANCES: Final = "instances"  # RUN_DIR/instances/NAME/anything
_DELETED: Final = "//deleted"  # what the kernel adds to a path that leads nowhere any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of mountinfo: ids, the device as (major, minor), and the mount point as an absolute path.

    ``root`` is the directory of that device's file system that is shown there.
    """

    id: int
    parent: int
    device: tuple[int, int]
    root: str
    point: str
    read_only: bool


def unescaped(field: bytes) -> str:
    r"""A path as the kernel's tables have it (seq_file, mangle_path()), with escapes such as ``\040`` undone."""
    if b"\\" not in field:
        return os.fsdecode(field)
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field))


def parse_mountinfo(text: bytes) -> list[Mount]:
    r"""The mounts in the text of a mountinfo file, in its order; escapes such as ``\040`` are undone."""
    found = []
    for line in text.split(b"\n")[:-1]:  # not splitlines: a carriage return in a path stands there as it is
        fields = line.split(b" ")
        major, _, minor = fields[2].partition(b":")
        found.append(
            Mount(
                id=int(fields[0]),
                parent=int(fields[1]),
                device=(int(major), int(minor)),
                root=unescaped(fields[3]),
                point=unescaped(fields[4]),
                read_only=b"ro" in fields[5].split(b","),
            )
        )
    return found


def mounts() -> list[Mount]:
    """Everything mounted in our mount namespace, in mount order."""
    return parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())


def mounts_at_or_below(directory: str) -> list[Mount]:
    """Mounts at the directory or below it, the deepest and latest first: the order to unmount in.

    Compared by path component: ``/run/web1`` never has ``/run/web10`` below it.
    """
    text = Path("/proc/self/mountinfo").read_bytes()
    return _at_or_below(directory, parse_mountinfo(text)) if _mentions(text, directory) else []


def _mentions(text: bytes, directory: str) -> bool:
    """Whether it can be that one of these mounts is there: taking the table of a node with many apart is slow."""
    top = os.fsencode(directory.rstrip("/"))
    return top in text or any(c in b" \t\n\\#" for c in top)


def _at_or_below(directory: str, everything: list[Mount]) -> list[Mount]:
    # By the tree and not only in reverse order: an older mount can have been moved below a younger one.
    top = directory.rstrip("/")
    parents = {mount.id: mount.parent for mount in everything}
    found = [mount for mount in everything if mount.point == (top or "/") or mount.point.startswith(f"{top}/")]
    return sorted(found, key=lambda mount: _depth(mount.id, parents))[::-1]


def _depth(mount: int, parents: dict[int, int]) -> int:
    seen = set()
    while mount in parents and mount not in seen:  # the first mount of all can be its own parent
        seen.add(mount)
        mount = parents[mount]
    return len(seen)


def mounted_devices() -> dict[tuple[int, int], str]:
    """One mount point for each device that is mounted."""
    return {mount.device: mount.point for mount in mounts()}


def unmount_below(directory: str) -> int:
    """Unmount everything at or below the directory, deepest first, never lazily; how many mounts that were.

    Raises `LeftoverError` naming who holds a busy one. A lazy unmount would only hide it: the file system stays
    in use while the instance looks stopped.
    """
    import ctypes  # noqa: PLC0415 - 2.1 ms, not for a look

    count = 0
    libc = ctypes.CDLL(None, use_errno=True)
    for mount in mounts_at_or_below(directory):
        if libc.umount2(os.fsencode(mount.point), _UMOUNT_NOFOLLOW) == 0:
            count += 1
            continue
        number = ctypes.get_errno()
        if number == errno.EINVAL:
            continue  # went away meanwhile, with the mount that it was on
        holders = ", ".join(_users_of(mount)) or "nobody that can be seen from here"
        raise LeftoverError(
            f"{mount.point}: cannot be unmounted, got {os.strerror(number)}, used by {holders}; end that and try again"
        )
    return count


def _users_of(mount: Mount) -> list[str]:
    """Processes with their root, directory, program or an open file on the mount's device, as ``pid N (command)``."""
    device = os.makedev(*mount.device)
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdecimal()):
        links = [f"/proc/{pid}/{name}" for name in ("root", "cwd", "exe")]
        try:
            links += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
            if any(_device_of(link) == device for link in links):
                command = Path(f"/proc/{pid}/comm").read_text().strip()
                found.append(f"pid {pid} ({command})")
        except OSError:
            continue
    return found


def _device_of(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def claim_mount(path: str, point: str) -> None:
    """Be the one user of the directory ``path``, which has just been mounted at ``point`` in an instance's directory.

    Raises `DiskInUseError` naming the instance that has mounted it, a directory in it or one that it is in, another one or
    this one a second time; readers share. The mount is then still there: it comes first, so that of two at the same
    moment at least one sees the other.
    """
    for other in other_users(mounts(), os.path.realpath(point)):
        # An operator may keep roots in a directory of that shape too, and mount them there himself.
        if os.path.lexists(PurePath(other.point).parent / RECORD_FILE):
            raise DiskInUseError(path=path, holder=_named(other))


def other_users(table: list[Mount], point: str) -> Iterator[Mount]:
    """What looks like mounts of instances and shares what is at ``point``, as far as one of the two writes to it."""
    own = [mount for mount in table if mount.point == point]
    if not own:
        raise NodeError(
            f"{point!r}: is not among the mounts of this process, where it has just been mounted; try again"
        )
    for other in table:
        if other.point != point and _of_an_instance(other) and any(_share(mount, other) for mount in own):
            yield other


def _of_an_instance(mount: Mount) -> bool:
    parts = PurePath(mount.point).parts
    return len(parts) > 3 and parts[-3] == _INSTANCES


def _share(one: Mount, other: Mount) -> bool:
    if one.device != other.device or (one.read_only and other.read_only):
        return False
    if one.root.endswith(_DELETED) or other.root.endswith(_DELETED):
        return False
    return _within(one.root, other.root) or _within(other.root, one.root)


def _within(inner: str, outer: str) -> bool:
    return f"{inner}/".startswith(f"{outer.rstrip('/')}/")


def _named(mount: Mount) -> str:
    directory = PurePath(mount.point).parent
    return f"instance {directory.name} of run directory {directory.parent.parent}, mounted at {mount.point}"
