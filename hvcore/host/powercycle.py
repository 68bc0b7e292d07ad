"""Restarting the node at once, without stopping anything: for a node that does not obey any more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Final

from hvcore.errors import NodeError

__all__ = ["SYSRQ_TRIGGER", "powercycle"]

SYSRQ_TRIGGER: Final = "/proc/sysrq-trigger"
_RESTART: Final = b"b"  # the kernel's Documentation/admin-guide/sysrq.rst: at once, without sync and unmount
_FALLBACK: Final = ("reboot", "-n", "-f")
_FALLBACK_S: Final = 30.0


def powercycle(trigger: str = SYSRQ_TRIGGER, *, fallback: Sequence[str] = _FALLBACK) -> None:
    """Restart the node at once. Every instance is cut off, and nothing more is written to disks.

    ``trigger`` is the kernel's file for that. If it cannot be written to, the program ``fallback`` is run, unless that is
    empty. Returns only where writing to ``trigger`` does not restart. Raises `NodeError` if neither works.
    """
    try:
        fd = os.open(trigger, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, _RESTART)
        finally:
            os.close(fd)
    except OSError as error:
        what = f"{trigger}: the node cannot be restarted, got {error.strerror}"
        if not fallback:
            raise NodeError(f"{what}; run it as root") from error
        try:
            subprocess.run(fallback, check=True, timeout=_FALLBACK_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as failed:
            raise NodeError(f"{what}, and {' '.join(fallback)} failed ({failed}); run it as root") from failed
