"""Locks of fcntl(2) on bytes of a file, taken and asked for. `hvcore.host.lock` has those of flock(2) on whole files."""

from __future__ import annotations

import fcntl
import os
import struct
from typing import Final

__all__ = ["is_locked", "share_byte", "writing_process"]

_FLOCK: Final = "hh4xqqi4x"  # struct flock of Linux on 64-bit: l_type, l_whence, padding, l_start, l_len, l_pid


def share_byte(fd: int, byte: int) -> None:
    """Take a read lock on that byte. It is the open file's, also in processes that inherit the descriptor. Raises OSError."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _packed(fcntl.F_RDLCK, byte, 1))


def is_locked(fd: int, *, byte: int = 0, count: int = 0) -> bool:
    """Whether another open file has any lock on these bytes; ``count`` 0: up to the end. Raises OSError."""
    reply = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _packed(fcntl.F_WRLCK, byte, count))
    return bool(struct.unpack(_FLOCK, reply)[0] != fcntl.F_UNLCK)


def writing_process(fd: int) -> int | None:
    """The pid of the process that has a write lock on the file; None without one. Raises OSError.

    The kernel gives the pid in our PID namespace, also for a zombie with a write in flight.
    """
    reply = fcntl.fcntl(fd, fcntl.F_GETLK, _packed(fcntl.F_WRLCK, 0, 0))
    kind, _, _, _, pid = struct.unpack(_FLOCK, reply)
    return int(pid) if kind != fcntl.F_UNLCK else None


def _packed(kind: int, byte: int, count: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, byte, count, 0)
