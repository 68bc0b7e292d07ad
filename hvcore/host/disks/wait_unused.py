"""Waiting until nothing on the node uses a disk, after its last unmount; and naming who uses it if that takes too long.

A file system goes some time after its last mount: every process that makes a mount namespace has a copy of all mounts
until it has removed what it does not need. The kernel does not report when it has released a device.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError
from hvcore.host.disks.disk_identity import host_use, identify_disk, used_as
from hvcore.host.mount_table import mounts, parse_mountinfo
from hvcore.host.processes.process import in_words
from hvcore.host.processes.search import pids

__all__ = ["wait_unused"]

_FIRST_RETRY_S: Final = 0.0005
_LAST_RETRY_S: Final = 0.02
_MORE_FOR_THE_KERNEL: Final = 5.0  # times the deadline


def wait_unused(path: str, deadline_s: float) -> None:
    """Wait until nothing on the node uses the disk. A missing disk is fine.

    Raises `LeftoverError` naming its users after ``deadline_s`` seconds. If no process has the disk mounted or open, the
    kernel is about to release it: then after five times as many seconds.
    """
    began = time.monotonic()
    retry_s, patient = _FIRST_RETRY_S, False
    while (used := _use(path)) is not None:
        waited_s = time.monotonic() - began
        if waited_s >= deadline_s and (not patient or waited_s >= deadline_s * _MORE_FOR_THE_KERNEL):
            holders = _holders(path, used)
            if holders is None and not patient:
                patient = True
            else:
                by = holders or f"used by {used}, for no process that can be seen from here"
                raise LeftoverError(f"disk {path!r}: still in use after its unmount, {by}; end that use and try again")
        time.sleep(retry_s)
        retry_s = min(retry_s * 2, _LAST_RETRY_S)


def _use(path: str) -> str | None:
    try:
        return host_use(path, identify_disk(path))
    except OSError:
        return None  # it does not exist any more


def _holders(path: str, used: str) -> str | None:
    """Who has the disk mounted, in another mount namespace too, or else who has its device open."""
    try:
        devices = set(used_as(path, identify_disk(path)).values())
    except OSError:  # a loop device that goes now
        return None
    numbers = {(os.major(device), os.minor(device)) for device in devices}
    if any(mount.device in numbers for mount in mounts()):
        return f"used by {used}"
    if mounted := _mounted_for(numbers):
        return f"mounted for {', '.join(mounted)}"
    if opened := _opened_by(devices):
        return f"opened by {', '.join(opened)}"
    return None


def _mounted_for(devices: set[tuple[int, int]]) -> list[str]:
    """One process of each other mount namespace in which one of the devices is mounted, as ``pid N (command)``."""
    seen = {os.readlink("/proc/self/ns/mnt")}
    found = []
    for pid in pids():
        with suppress(OSError):  # it has exited meanwhile
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            mounted = parse_mountinfo(Path(f"/proc/{pid}/mountinfo").read_bytes())
            if any(mount.device in devices for mount in mounted):
                found.append(in_words(pid))
    return found


def _opened_by(devices: set[int]) -> list[str]:
    """Each process that has one of the block devices open, as ``pid N (command)``."""
    found = []
    for pid in pids():
        with suppress(OSError):
            if any(_block_device(f"/proc/{pid}/fd/{fd}") in devices for fd in os.listdir(f"/proc/{pid}/fd")):
                found.append(in_words(pid))
    return found


def _block_device(path: str) -> int | None:
    try:
        found = os.stat(path)
    except OSError:  # closed meanwhile
        return None
    return found.st_rdev if stat.S_ISBLK(found.st_mode) else None
