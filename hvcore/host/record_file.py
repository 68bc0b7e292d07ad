"""Reading the file of a record."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hvcore.host.files import read_regular
from hvcore.model.record import Record, parse_record

__all__ = ["read_record"]

_MAX_BYTES: Final = 16 * 1024 * 1024


def read_record(path: Path, name: str) -> Record:
    """The record of that instance in the file. Raises OSError, and `RecordError` for contents that cannot be used."""
    return parse_record(read_regular(path, limit=_MAX_BYTES), name)
