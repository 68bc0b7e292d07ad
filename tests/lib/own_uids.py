"""Uids that no other test process has: for a test of what becomes of a uid that no process of the node runs as."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["OWN_UIDS"]

_FIRST: Final = 1_880_000_100  # the hundred before it is of the other tests
_BLOCKS: Final = 650

OWN_UIDS: Final = range(first := _FIRST + os.getpid() % _BLOCKS * 100, first + 100)
