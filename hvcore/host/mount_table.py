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
from pathlib import Path, PurePath
from typing import Final

from hvcore.errors import DiskInUseError, LeftoverError, NodeError
from hvcore.frozen import dataclass
from hvcore.model.record import RECORD_FILE

__all__ = [
    "Mount",
    "claim_mount",
    "mounts",
    "mounts_at_or_below",
    "other_users",
    "parse_mountinfo",
    "unescaped",
    "unmount_below",
]

_UMOUNT_NOFOLLOW: Final = 8  # linux/fs.h
_INSTANCES: Final = "instances"  # RUN_DIR/instances/NAME/anything
_DELETED: Final = "//deleted"  # what the kernel adds to the path of a directory that was removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of mountinfo: ids, the device as (major, minor), and the mount point as an absolute path.

    ``root`` is the mounted directory, as a path in the device's file system. A ``shielded`` mount is read-only here, and
    its instance writes to it (`hvcore.host.own_mounts`). An unmount of a ``shared`` one reaches other namespaces.
    """

    id: int
    parent: int
    device: tuple[int, int]
    root: str
    point: str
    read_only: bool
    shielded: bool = False
    shared: bool = False


def unescaped(field: bytes) -> str:
    r"""A path in one of the kernel's tables (seq_file, mangle_path()), with escapes such as ``\040`` undone."""
    if b"\\" not in field:
        return os.fsdecode(field)
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field))


def parse_mountinfo(text: bytes) -> list[Mount]:
    """The mounts in the text of a mountinfo file, in its order."""
    found = []
    for line in text.split(b"\n")[:-1]:  # not splitlines: the kernel does not escape a carriage return in a path
        fields = line.split(b" ")
        major, _, minor = fields[2].partition(b":")
        flags = fields[5].split(b",")
        found.append(
            Mount(
                id=int(fields[0]),
                parent=int(fields[1]),
                device=(int(major), int(minor)),
                root=unescaped(fields[3]),
                point=unescaped(fields[4]),
                read_only=b"ro" in flags,
                shielded=b"ro" in flags and b"nodiratime" in flags,
                shared=b" shared:" in line,
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
    """Whether the table may have such a mount. Parsing it is slow on a node with many mounts."""
    top = os.fsencode(directory.rstrip("/"))
    return top in text or any(c in b" \t\n\\#" for c in top)


def _at_or_below(directory: str, everything: list[Mount]) -> list[Mount]:
    # Ordered by the tree and not only in reverse: an older mount can have been moved below a younger one.
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


def unmount_below(directory: str) -> int:
    """Unmount everything at or below the directory, deepest first, never lazily; the number of mounts.

    Raises `LeftoverError` naming the users of a busy mount. A lazy unmount would only hide it: the file system stays in
    use while the instance looks stopped.
    """
    from hvcore.host.libc import libc_call  # noqa: PLC0415 - 2.1 ms (ctypes), which list and info do not need

    count = 0
    for mount in mounts_at_or_below(directory):
        try:
            libc_call("umount2", os.fsencode(mount.point), _UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.EINVAL:
                continue  # it went with the mount that it was on
            users = ", ".join(_users_of(mount)) or "a process that cannot be seen from here"
            what = f"{mount.point}: cannot be unmounted, got {error.strerror}, used by {users}"
            raise LeftoverError(f"{what}; end that process and try again") from error
        count += 1
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
                found.append(f"pid {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})")
        except OSError:
            continue
    return found


def _device_of(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None


def claim_mount(path: str, point: str) -> None:
    """Claim the directory ``path``, which has just been mounted at ``point`` in an instance's directory.

    Raises `DiskInUseError` naming an instance that has mounted the same directory, one inside it or one above it, also
    this instance for a second time. Readers share. The mount stays: of two at the same moment at least one sees the other.
    """
    for other in other_users(mounts(), os.path.realpath(point)):
        # A mount of the operator's may have a path of that shape too.
        directory = PurePath(other.point).parent
        if other.shielded or os.path.lexists(directory / RECORD_FILE):
            holder = f"instance {directory.name} of run directory {directory.parent.parent}, mounted at {other.point}"
            raise DiskInUseError(path=path, holder=holder)


def other_users(table: list[Mount], point: str) -> Iterator[Mount]:
    """Mounts in directories of instances that share files with the mount at ``point``, at least one of the two writing."""
    own = [mount for mount in table if mount.point == point]
    if not own:
        what = f"{point!r}: has just been mounted and is not in the mount table of this process"
        raise NodeError(f"{what}; try again")
    for other in table:
        parts = PurePath(other.point).parts
        of_an_instance = len(parts) > 3 and parts[-3] == _INSTANCES
        if other.point != point and of_an_instance and any(_share(mount, other) for mount in own):
            yield other


def _share(one: Mount, other: Mount) -> bool:
    if one.device != other.device or (_is_read(one) and _is_read(other)):
        return False
    if one.root.endswith(_DELETED) or other.root.endswith(_DELETED):
        return False
    inner, outer = (f"{root.rstrip('/')}/" for root in (one.root, other.root))
    return inner.startswith(outer) or outer.startswith(inner)


def _is_read(mount: Mount) -> bool:
    return mount.read_only and not mount.shielded
