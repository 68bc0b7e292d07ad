"""Reading, writing and waiting for the files of a control group: the seam where tests put a kernel of their own."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, overload

from hvcore.deadline import Deadline

__all__ = ["ControlFiles"]

_GONE: Final = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)  # ENODEV: removed while it was open
_LOOK_EVERY_S: Final = 0.001


class ControlFiles:
    """The kernel's own control groups, by absolute path."""

    @overload
    def read(self, path: str) -> str: ...
    @overload
    def read(self, path: str, *, missing: None) -> str | None: ...
    def read(self, path: str, *, missing: str | None = "") -> str | None:
        """What a file says now; ``missing`` when it, or its group, is not there."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _GONE:
                return missing
            raise
        try:
            parts = []
            while part := os.read(fd, 65536):
                parts.append(part)
        except OSError as error:
            if error.errno in _GONE:
                return missing
            raise
        finally:
            os.close(fd)
        return b"".join(parts).decode("ascii", "replace")

    def write(self, path: str, text: str) -> None:
        """Write to a file that is there, in one step. Raises OSError, with the path."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            number = errno.ENOENT if error.errno in _GONE else error.errno
            raise OSError(number, os.strerror(number or 0), path) from error
        finally:
            os.close(fd)

    def make(self, directory: str) -> None:
        """Make a group; one that is there is fine."""
        with suppress(FileExistsError):
            os.mkdir(directory, 0o755)

    def remove(self, directory: str) -> None:
        """Remove a group; one that is not there is fine."""
        with suppress(FileNotFoundError):
            os.rmdir(directory)

    def walk(self, top: str) -> list[str]:
        """The group and all that are below it, each before those in it; nothing when it is not there."""
        return [directory for directory, _, _ in os.walk(top)]

    def wait(self, path: str, wanted: Callable[[str], bool], deadline: Deadline) -> bool:
        """Wait until what the file says is as wanted; False when the deadline came first. A missing one says nothing.

        The kernel tells of changes to v2's cgroup.events, by POLLPRI. Of v1's freezer.state it tells nobody.
        """
        told = path.endswith("/cgroup.events")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return wanted("")
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while not wanted(_again(fd)):
                left_s = deadline.left(at_most=3600.0)
                if left_s == 0.0:
                    return False
                if told:
                    poll.poll(round(left_s * 1000) or 1)
                else:
                    time.sleep(min(_LOOK_EVERY_S, left_s))
            return True
        finally:
            os.close(fd)


def _again(fd: int) -> str:
    try:
        return os.pread(fd, 4096, 0).decode("ascii", "replace")
    except OSError as error:
        if error.errno in _GONE:
            return ""
        raise
