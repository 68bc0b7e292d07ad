"""Descriptors of other processes, copied with pidfd_getfd(2): the copy shares the socket or the lock of the original."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from hvcore.host.libc import system_call
from hvcore.host.lock import close_in_children

__all__ = ["copied_fds"]

_PIDFD_GETFD: Final = 438  # the same on every architecture; Linux 5.6


def copied_fds(pids: Iterable[int], wanted: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
    """``(target, descriptor)`` for each open file of these processes whose link in /proc/PID/fd is ``wanted``.

    One descriptor for each target. Files of a process that we may not trace are left out. The caller closes them with
    `hvcore.host.lock.close_lock`.
    """
    found: set[str] = set()
    for pid in pids:
        with suppress(OSError):  # it has exited, or may not be traced
            for target, fd in _copied_from(pid, lambda target: target not in found and wanted(target)):
                found.add(target)
                yield target, fd


def _copied_from(pid: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, int]]:
    pidfd = os.pidfd_open(pid)
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{number}")
                if wanted(target):
                    fd = system_call(_PIDFD_GETFD, pidfd, int(number), 0)
                    close_in_children(fd)
                    yield target, fd
    finally:
        os.close(pidfd)
