"""A guest with a user network, and what it sends and receives: programs of the node that the guest connects to."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

from linux_guest import LinuxGuest

__all__ = ["ADDRESS", "configure", "received", "sent"]

ADDRESS: Final = "10.0.2.15"
_DEADLINE_S: Final = 400.0
_PIECE: Final = 1 << 20
# An input without an end: nc of busybox closes its half of the connection at the end of its input.
_ENDLESS: Final = "0<>/endless"

T = TypeVar("T")


def configure(guest: LinuxGuest, *, mtu: int) -> None:
    """Give the guest the address that it would get by DHCP."""
    guest.run(f"ip link set lo up; ip link set eth0 mtu {mtu}; ip link set eth0 up; ip addr add {ADDRESS}/24 dev eth0")
    guest.run("ip route add default via 10.0.2.2; mkfifo /endless")


def sent(guest: LinuxGuest, command: str, node: str) -> tuple[str, int]:
    """The MD5 sum and the length of what the guest's command writes, as it arrives at ``node``, an address of this node."""

    def receive(connected: socket.socket) -> tuple[str, int]:
        digest, length = hashlib.md5(usedforsecurity=False), 0
        while data := connected.recv(_PIECE):
            digest.update(data)
            length += len(data)
        return digest.hexdigest(), length

    with _connected(node, receive) as (port, result):
        guest.run(f"{command} | nc {node} {port}", deadline_s=_DEADLINE_S)
        return result.result(_DEADLINE_S)


def received(guest: LinuxGuest, data: bytes, command: str, node: str) -> str:
    """What the guest's command writes that gets ``data`` from ``node`` as its input."""
    with _connected(node, lambda connected: connected.sendall(data)) as (port, result):
        output = guest.run(f"nc {node} {port} {_ENDLESS} | {command}", deadline_s=_DEADLINE_S)
        result.result(_DEADLINE_S)
        return output


@contextmanager
def _connected(node: str, serve: Callable[[socket.socket], T]) -> Iterator[tuple[int, Future[T]]]:
    """A port that serves one connection, in a thread; and what came of it."""
    with socket.create_server((node, 0)) as listening, ThreadPoolExecutor(1) as pool:
        listening.settimeout(_DEADLINE_S)

        def accept() -> T:
            connected, _ = listening.accept()
            with connected:
                connected.settimeout(_DEADLINE_S)
                return serve(connected)

        yield listening.getsockname()[1], pool.submit(accept)
