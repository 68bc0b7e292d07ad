"""Names in an instance's directory."""

from __future__ import annotations

from typing import Final

__all__ = ["LOG_FILE", "OUTPUT", "ROOT", "WAITS"]

ROOT: Final = "root"
OUTPUT: Final = "output"
LOG_FILE: Final = "log"
"""In directory `OUTPUT`."""
WAITS: Final = "waits"
"""In the record's bindings while an instance that was started paused has not run: it holds only its disks."""
