"""A network of the test's own: the node's interfaces, routes and ports are neither seen nor changed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest

__all__ = ["ADDRESSES", "own_network"]

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
ADDRESSES: Final = {4: "198.51.100.2", 6: "fd01::2"}
"""The node's address in the network, by family."""


@contextmanager
def own_network(families: Iterable[int] = (4, 6)) -> Iterator[None]:
    """The calling thread, and what it starts, is in a new network with a default route for these families.

    The routes lead to nothing. Skips without root and where the program ip is missing.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the program ip: sudo ./dev test")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            _ip("link set lo up")
            _ip("link add hv-node type veth peer name hv-wire")
            for name in ("hv-node", "hv-wire"):
                _ip(f"link set {name} up")
            if 4 in families:
                _ip(f"addr add {ADDRESSES[4]}/24 dev hv-node")
                _ip("route add default via 198.51.100.1")
            if 6 in families:
                _ip(f"addr add {ADDRESSES[6]}/64 dev hv-node nodad")
                _ip("-6 route add default via fd01::1")
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(before)


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)
