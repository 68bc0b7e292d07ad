"""Ports of the node: who waits on one, and a socket that keeps one until a program listens on it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["bound_socket", "listening", "reserve_port"]

_TYPES: Final = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_LISTENS: Final = {"tcp": "0A", "udp": "07"}  # proc(5), net/tcp and net/udp: a socket without a peer
_PORT_TRIES: Final = 1000


def bound_socket(protocol: str, address: str | None, port: int, *, dual: bool = False) -> socket.socket:
    """A socket bound to that port, or to a free one for 0; address None for all, of IPv4 and IPv6 with ``dual``.

    Only a program that sets SO_REUSEADDR can bind to the port as long as it is open. No other such socket can. Ended
    connections, which the kernel remembers for a minute, are no obstacle. Raises OSError.
    """
    try:
        return _bound(protocol, address, port, dual=dual, reuse=False)
    except OSError as error:
        ended = error.errno == errno.EADDRINUSE and protocol == "tcp" and any(_sockets(protocol, port, listens=False))
        if not ended:
            raise
    return _bound(protocol, address, port, dual=dual, reuse=True)


def _bound(protocol: str, address: str | None, port: int, *, dual: bool, reuse: bool) -> socket.socket:
    family = socket.AF_INET6 if dual or ":" in (address or "") else socket.AF_INET
    made = socket.socket(family, _TYPES[protocol])
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address or "", port))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        made.close()
        raise
    return made


def reserve_port(address: str, first: int) -> socket.socket | None:
    """A socket bound to the first free port from ``first`` on at that address; None when 1000 ports are taken.

    While the socket is open, no other start chooses that port and the kernel gives it to no program that takes any
    port. A server that sets SO_REUSEADDR, as SPICE's does, can still listen on it.
    """
    for port in range(first, first + _PORT_TRIES):
        try:
            return _bound("tcp", address, port, dual=False, reuse=False)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return None


def listening(protocol: str, port: int) -> Iterator[str]:
    """``socket:[INODE]`` of each socket of the node that waits for clients on the port."""
    return _sockets(protocol, port, listens=True)


def _sockets(protocol: str, port: int, *, listens: bool) -> Iterator[str]:
    for name in (protocol, f"{protocol}6"):
        with suppress(OSError):
            for line in Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]:
                row = line.split()
                if (row[3] == _LISTENS[protocol]) is listens and int(row[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{row[9]}]"
