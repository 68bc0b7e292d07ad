"""Programs of the node: whether a path leads to one, and whether it is still the same."""

from __future__ import annotations

import os

__all__ = ["is_program", "program_key"]


def is_program(path: str) -> bool:
    """Whether the path leads to a file that this process may execute."""
    return os.path.isfile(path) and os.access(path, os.X_OK)


def program_key(path: str) -> list[object]:
    """Changes when the program does, as plain JSON types. Raises OSError without such a file."""
    found = os.stat(path)
    return [os.path.realpath(path), found.st_mtime_ns, found.st_size]
