"""What belongs to a program that was installed elsewhere than below /usr: its libraries, modules and data."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

__all__ = ["installation"]


def installation(binary: str) -> list[str]:
    """The directories that a confined program has to see beside /usr; none for a program below /usr.

    Directories of an installation by name, so that nothing else beside them is shown (a home directory, the whole file
    system); the whole directory for a program in the place where it was built.
    """
    path = PurePosixPath(os.path.realpath(binary))
    if path.is_relative_to("/usr"):
        return []
    if path.parent.name != "bin":
        return [str(path.parent if path.parent.name else path)]
    beside = (str(path.parent.parent / name) for name in ("bin", "lib", "lib64", "libexec", "share"))
    return [directory for directory in beside if os.path.isdir(directory)]
