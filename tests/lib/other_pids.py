"""A program in a PID namespace of its own, which sees no process of the test."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from without_instances import IN_A_SHELL

from hvcore.host.confinement.own_root import with_own_root

__all__ = ["in_other_pids"]

_WITHOUT_INSTANCES: Final = f'{IN_A_SHELL}exec "$@"'


def in_other_pids(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What Python prints there when it runs the code."""
    propagation = "unchanged" if with_own_root() else "private"
    inside = ("unshare", "--pid", "--fork", "--propagation", propagation, "--mount-proc")
    command = [*inside, "sh", "-c", _WITHOUT_INSTANCES, "sh", sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
