"""Small files that a power failure must not lose or tear: one line of JSON, one line with its CRC-32."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from hvcore.host.files import fsync_dir, private_dir, read_regular, write_atomic
from hvcore.model.codec import encoded, sealed, unsealed

__all__ = ["DamagedFileError", "durable_dir", "read_durable", "write_durable"]

_MAX_BYTES: Final = 4 * 1024 * 1024


class DamagedFileError(Exception):
    """The file is there, and is not what was written; the text says what is wrong."""


def durable_dir(path: Path) -> Path:
    """Make the directory if it is missing, mode 0700, and make its name durable. Raises `NodeError` and OSError."""
    missing = []
    place = path
    while not os.path.lexists(place):
        missing.append(place)
        place = place.parent
    private_dir(path)
    for made in reversed(missing):
        fsync_dir(made.parent)
    return path


def write_durable(path: Path, value: Any) -> None:
    """Replace the file by that plain JSON value. It is on disk, with its name, when this returns. Raises OSError."""
    write_atomic(path, sealed(encoded(value)))


def read_durable(path: Path) -> Any:
    """The value in the file; None if there is no file. Raises `DamagedFileError` for another content, and OSError."""
    try:
        data = read_regular(path, limit=_MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    body = unsealed(data)
    if body is None:
        raise DamagedFileError("the checksum does not match")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"not JSON: {error}") from error
