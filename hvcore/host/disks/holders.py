"""Who keeps a disk in use after it was unmounted: other mount namespaces, which may hold a copy of the mount."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from hvcore.errors import LeftoverError
from hvcore.host.disks.disk_identity import host_use, identify_disk, loops_over
from hvcore.host.mounts.mount_table import parse_mountinfo

__all__ = ["wait_unused"]

# A file system is gone some time after its last mount: each sandbox that is being made has copies of all mounts for a
# moment. The kernel tells nobody when it has let go of a device.
_FIRST_RETRY_S: Final = 0.0005
_LAST_RETRY_S: Final = 0.02


def wait_unused(path: str, deadline_s: float) -> None:
    """Wait until nothing on the node uses the disk any more. That there is no such disk any more is fine.

    Raises `LeftoverError` naming who holds it, after at most ``deadline_s`` seconds.
    """
    give_up = time.monotonic() + deadline_s
    retry_s = _FIRST_RETRY_S
    while True:
        try:
            disk = identify_disk(path)
            used = host_use(path, disk)
        except OSError:
            return
        if used is None:
            return
        if time.monotonic() >= give_up:
            number = os.stat(path).st_rdev
            devices = {number} if disk.block_device else loops_over(disk)
            who = ", ".join(_elsewhere({(os.major(device), os.minor(device)) for device in devices}))
            by = f"mounted for {who}" if who else f"used by {used}"
            raise LeftoverError(f"disk {path!r}: still in use after its unmount, {by}; end that and try again")
        time.sleep(retry_s)
        retry_s = min(retry_s * 2, _LAST_RETRY_S)


def _elsewhere(devices: set[tuple[int, int]]) -> list[str]:
    """One process of each other mount namespace that has one of the devices mounted, as ``pid N (command)``."""
    seen = {os.readlink("/proc/self/ns/mnt")}
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdecimal()):
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            seen.add(namespace)
            mounted = parse_mountinfo(Path(f"/proc/{pid}/mountinfo").read_bytes())
            if any(mount.device in devices for mount in mounted):
                found.append(f"pid {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})")
        except OSError:
            continue  # it has ended meanwhile
    return found
