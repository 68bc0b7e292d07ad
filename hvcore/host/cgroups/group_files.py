"""Reading, writing and waiting for the files of control groups. Tests put a kernel in memory in its place."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hvcore.deadline import Deadline

__all__ = ["ControlFiles"]

_MISSING: Final = (errno.ENOENT, errno.ENODEV, errno.ENOTDIR)  # ENODEV: removed while it was open
_POLL_EVERY_S: Final = 0.001


class ControlFiles:
    """The kernel's control groups, by absolute path."""

    def read(self, path: str) -> str:
        """The contents of a file; empty if the file or its group does not exist."""
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read().decode("ascii", "replace")
        except OSError as error:
            if error.errno in _MISSING:
                return ""
            raise

    def write(self, path: str, text: str) -> None:
        """Write to an existing file in one step. Raises OSError, with the path."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            number = errno.ENOENT if error.errno in _MISSING else error.errno
            raise OSError(number, os.strerror(number or 0), path) from error
        finally:
            os.close(fd)

    def make(self, directory: str) -> None:
        """Make a group; an existing one is fine."""
        with suppress(FileExistsError):
            os.mkdir(directory, 0o755)

    def remove(self, directory: str) -> None:
        """Remove a group; a missing one is fine."""
        with suppress(FileNotFoundError):
            os.rmdir(directory)

    def walk(self, top: str) -> list[str]:
        """The group and all groups below it, each before its own children; empty if the group does not exist."""
        return [directory for directory, _, _ in os.walk(top)]

    def wait(self, path: str, wanted: Callable[[str], bool], deadline: Deadline) -> bool:
        """Wait until ``wanted`` accepts the contents of the file, "" for a missing one; False after the deadline.

        The kernel reports changes of v2's cgroup.events by POLLPRI. It reports none of v1's freezer.state.
        """
        has_events = path.endswith("/cgroup.events")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return wanted("")
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            while not wanted(_contents(fd)):
                left_s = deadline.left(at_most=3600.0)
                if left_s == 0.0:
                    return False
                if has_events:
                    poll.poll(round(left_s * 1000) or 1)
                else:
                    time.sleep(min(_POLL_EVERY_S, left_s))
            return True
        finally:
            os.close(fd)


def _contents(fd: int) -> str:
    try:
        return os.pread(fd, 4096, 0).decode("ascii", "replace")
    except OSError as error:
        if error.errno in _MISSING:
            return ""
        raise
