"""A program in a PID namespace of its own, which sees no process of the test."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

__all__ = ["in_other_pids"]

_INSIDE: Final = ("unshare", "--pid", "--fork", "--propagation", "unchanged", "--mount-proc")


def in_other_pids(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What Python prints there when it runs the code."""
    command = [*_INSIDE, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
