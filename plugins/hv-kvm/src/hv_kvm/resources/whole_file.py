"""A new file that appears with all of its contents, or not at all: also when the node loses its power meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import BinaryIO

__all__ = ["make_whole"]


def make_whole(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Make the file, 0600, with what ``write`` writes. Does nothing when the file exists. Raises OSError."""
    if os.path.lexists(path):
        return
    directory, name = os.path.split(path)
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        nameless = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with open(nameless, "w+b") as made:
            write(made)
            made.flush()
            os.fsync(made.fileno())
            with contextlib.suppress(FileExistsError):  # another start was faster, and its file is the same
                # With a directory's descriptor: only then does Python call linkat(2), which follows the link.
                os.link(f"/proc/self/fd/{made.fileno()}", name, dst_dir_fd=place, follow_symlinks=True)
        os.fsync(place)  # or the file could lose its name after the guest was promised that its data are safe
    finally:
        os.close(place)
