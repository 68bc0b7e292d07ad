"""Working on files as another owner, for one thread and a moment."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["as_owner"]

_CAPABILITY_VERSION_3: Final = 0x20080522  # linux/capability.h


@contextmanager
def as_owner(uid: int) -> Iterator[None]:
    """Make files as that user and group, this thread alone, with all that root may do.

    A mount that shows other owners takes no file from one that it cannot show, not even from root, and an overlay
    works on its layers as whoever mounted it. setfsuid(2) is made for this, and takes capabilities away that are given
    back here.
    """
    if uid == 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.setfsgid(uid)
    libc.setfsuid(uid)
    try:
        _take_back(libc)
        yield
    finally:
        libc.setfsuid(0)
        libc.setfsgid(0)


def _take_back(libc: ctypes.CDLL) -> None:
    """Everything that is permitted becomes effective: capget(2), with effective, permitted, inheritable twice."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data) == 0:
        data[0], data[3] = data[1], data[4]
        if libc.capset(header, data) == 0:
            return
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
