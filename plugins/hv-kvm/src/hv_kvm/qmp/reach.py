"""A QMP client for a guest that runs: by the monitor for commands, or by the one that is kept free for when that is not."""

from __future__ import annotations

from pathlib import Path

from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import QmpBusyError, QmpClient, QmpConnectError, connect

__all__ = ["reach"]


def reach(directory: Path, deadline_s: float) -> QmpClient:
    """A client, negotiated. Raises `QmpError`: `QmpTimeoutError` for a QEMU that hangs, which both monitors share.

    QEMU serves one client per monitor, so whoever holds the first one must not keep a guest from being stopped.
    """
    paths = GuestPaths(directory)
    try:
        return connect(str(paths.commands), deadline_s=deadline_s)
    except (QmpBusyError, QmpConnectError):
        return connect(str(paths.recovery), deadline_s=deadline_s)
