"""Names in an instance's directory."""

from __future__ import annotations

from typing import Final

__all__ = ["BINDS", "LOG_FILE", "OUTPUT", "ROOT", "WAITS"]

ROOT: Final = "root"
OUTPUT: Final = "output"
LOG_FILE: Final = "log"
"""In directory `OUTPUT`."""
BINDS: Final = "binds"
"""In the record's bindings: for the target of each bind the device and the inode number of what is mounted there."""
WAITS: Final = "waits"
"""In the record's bindings while an instance that was started paused has not run: it holds only its disks."""
