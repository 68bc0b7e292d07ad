"""A program in a PID namespace of its own, which sees no process of the test."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from hvcore.host.confinement.own_root import with_own_root

__all__ = ["in_other_pids"]

# Without the copies of mounts of instances: those of other tests would be kept in use. Shared ones only in a plain chroot.
_WITHOUT_INSTANCES: Final = """
while read -r _ _ _ _ point _ tag _; do
  case $tag in shared:*) continue ;; esac
  case $point in */instances/*) umount -l "$point" ;; esac
done < /proc/self/mountinfo
exec "$@"
"""


def in_other_pids(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What Python prints there when it runs the code."""
    propagation = "unchanged" if with_own_root() else "private"
    inside = ("unshare", "--pid", "--fork", "--propagation", propagation, "--mount-proc")
    command = [*inside, "sh", "-c", _WITHOUT_INSTANCES, "sh", sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
