"""A network of the test's own: the node's interfaces, routes and ports are neither seen nor changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from empty_network import empty_network

__all__ = ["ADDRESSES", "own_network"]

ADDRESSES: Final = {4: "198.51.100.2", 6: "fd01::2"}
"""The node's address in the network, by family."""


@contextmanager
def own_network(families: Iterable[int] = (4, 6)) -> Iterator[None]:
    """The calling thread, and what it starts, is in a new network with a default route for these families.

    The routes lead to nothing. Skips without root and where the program ip is missing.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the program ip: sudo ./dev test")
    with empty_network() as network:
        network.ip(*["link", "add", "hv-node", "type", "veth", "peer", "name", "hv-wire"])
        for name in ("hv-node", "hv-wire"):
            network.ip("link", "set", name, "up")
        if 4 in families:
            network.ip("addr", "add", f"{ADDRESSES[4]}/24", "dev", "hv-node")
            network.ip(*["route", "add", "default", "via", "198.51.100.1"])
        if 6 in families:
            network.ip("addr", "add", f"{ADDRESSES[6]}/64", "dev", "hv-node", "nodad")
            network.ip(*["-6", "route", "add", "default", "via", "fd01::1"])
        yield
