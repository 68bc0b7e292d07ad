"""What is mounted in our mount namespace, from /proc/self/mountinfo (proc(5)), by id and by path component."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError

__all__ = ["Mount", "mounted_devices", "mounts", "mounts_at_or_below", "parse_mountinfo", "unescaped", "unmount_below"]

_UMOUNT_NOFOLLOW: Final = 8  # linux/fs.h


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
