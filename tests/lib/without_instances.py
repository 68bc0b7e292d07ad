"""For a new mount namespace of a test: without the copies of the mounts of instances.

Copies would keep the disks of other tests in use after their unmount, for as long as a process of that namespace lives.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Final

__all__ = ["IN_A_SHELL", "take_off_copies"]

_MNT_DETACH: Final = 2  # linux/fs.h

# Not shared mounts: in a plain chroot, which cannot make / private, an unmount reaches the node.
IN_A_SHELL: Final = """
while read -r _ _ _ _ point _ tag _; do
  case $tag in shared:*) continue ;; esac
  case $point in */instances/*) umount -l "$point" ;; esac
done < /proc/self/mountinfo
"""


def take_off_copies() -> None:
    """In the mount namespace of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    for line in reversed(Path("/proc/self/mountinfo").read_bytes().splitlines()):
        fields = line.split()
        point = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), fields[4])
        if b"/instances/" in point and not fields[6].startswith(b"shared:"):
            libc.umount2(point, _MNT_DETACH)
