"""The serial console of a guest, and the end of what it wrote there."""

from __future__ import annotations

from pathlib import Path

import hvcore.plugin as hv
from hv_kvm.paths import GuestPaths

__all__ = ["console", "console_log"]


def console(live: hv.Live) -> hv.Console:
    """The serial console's socket."""
    path = GuestPaths(live.dir).serial
    if not path.exists():
        todo = "set serial_console = true and restart the instance"
        if live.record.bindings.get("displays"):
            todo = f"{todo}, or use 'hv view {live.record.name}'"
        raise hv.OperationError(f"{live.record.name}: was started without a serial console; {todo}")
    return hv.Console(name=live.record.name, socket=str(path))


def console_log(live: hv.Live) -> Path:
    """The last MiB that the guest wrote to its serial console."""
    path = GuestPaths(live.dir).serial_log
    if not path.exists():
        todo = "set serial_console and serial_log to true, then stop and start the instance"
        raise hv.OperationError(f"{live.record.name}: was started without a history of its console; {todo}")
    return path
