"""Files that a guest's QEMU left in the only directory that it could write to: kept for an operator, not deleted.

A guest that has taken over its QEMU can make anything there. So no link is followed, and nothing is read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from hvcore.plugin import NodeError, private_dir

__all__ = ["QUARANTINE", "has_foreign_file", "quarantine", "unlink_inside"]

QUARANTINE: Final = "quarantine"
_MOST_DIRECTORIES: Final = 1000
_INTO: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def has_foreign_file(directory: Path, own: Collection[str]) -> bool:
    """Whether there is a file other than those in ``own``, at any depth. Sockets and FIFOs have no contents.

    Also true for more directories than hvcore looks into.
    """
    for seen, (place, _, names) in enumerate(os.walk(directory)):
        if seen >= _MOST_DIRECTORIES:
            return True
        top = Path(place) == directory
        for name in names:
            with suppress(OSError):
                path = Path(place, name)
                if not (top and name in own) and (path.is_symlink() or path.is_file()):
                    return True
    return False


def quarantine(run_dir: Path, name: str, directory: Path) -> Path:
    """Move the directory out of the instance's; its new path. Without room for a new directory, into the run directory."""
    stamped = f"{name}.{time.time_ns()}"
    try:
        target = private_dir(run_dir / QUARANTINE) / stamped
    except NodeError:
        target = run_dir / f"{QUARANTINE}-{stamped}"
    directory.rename(target)
    with suppress(OSError):  # another guest may get its uid later
        os.chown(target, os.geteuid(), os.getegid())
    return target


def unlink_inside(directory: Path, name: str) -> None:
    """Remove the file ``name``, which may have directories in it. Missing is fine, and so is a link on the way."""
    *parents, last = name.split("/")
    with ExitStack() as opened, suppress(OSError):
        here = os.open(directory, _INTO)
        opened.callback(os.close, here)
        for parent in parents:
            here = os.open(parent, _INTO, dir_fd=here)
            opened.callback(os.close, here)
        os.unlink(last, dir_fd=here)
