"""Writing a file that others read: the old one or the new one is there, also after a crash."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["write_whole"]

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Replace the file at once, with that mode, or that of the file before, or one by the umask.

    A link stays one: the file that it leads to is replaced. A device, a FIFO or the like is written to, and never replaced.
    Raises OSError; then nothing of the new file is left.
    """
    path = Path(os.path.realpath(path))
    with suppress(FileNotFoundError):
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            path.write_bytes(data)
            return
        mode = stat.S_IMODE(before.st_mode) & 0o777 if mode is None else mode
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    fd = os.open(unfinished, _FLAGS, 0o666)  # in a directory of others, nobody else has prepared it
    try:
        with open(fd, "wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(fd, mode)
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
