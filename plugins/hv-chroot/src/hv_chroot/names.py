"""Names in an instance's directory."""

from __future__ import annotations

from typing import Final

__all__ = ["LOG_FILE", "OUTPUT", "ROOT"]

ROOT: Final = "root"
OUTPUT: Final = "output"
LOG_FILE: Final = "log"
"""In directory `OUTPUT`."""
