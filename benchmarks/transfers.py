"""A transfer between a Linux guest of the tests and a program of the node, in seconds."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

__all__ = ["MIB", "from_guest_s", "to_guest_s"]

MIB: Final = 64
"""The length of one transfer."""

_PIECE: Final = 1 << 20
_ANSWER_S: Final = 600.0


def from_guest_s(guest: Any, node: str) -> float:
    """The guest sends. ``node`` is the address of the program; the guest is a `linux_guest.LinuxGuest` of the tests."""
    return _seconds(guest, node, f"if=/dev/zero count={MIB * 16}", _receive)


def to_guest_s(guest: Any, node: str) -> float:
    """The guest receives."""
    return _seconds(guest, node, "of=/dev/null", _send)


def _seconds(guest: Any, node: str, words: str, serve: Callable[[socket.socket], None]) -> float:
    """From the connection until the last byte has passed the program of the node."""
    with socket.create_server((node, 0)) as listening, ThreadPoolExecutor(1) as pool:
        listening.settimeout(_ANSWER_S)

        def accept() -> float:
            connected, _ = listening.accept()
            with connected:
                begun = time.perf_counter()
                serve(connected)
                return time.perf_counter() - begun

        took = pool.submit(accept)
        # dd has the connection itself: nc would copy one KiB at a time, and that would be measured.
        command = f"nc {node} {listening.getsockname()[1]} -e /bin/dd bs=64k {words}"
        guest.run(command, deadline_s=_ANSWER_S)
        return took.result(_ANSWER_S)


def _receive(connected: socket.socket) -> None:
    while connected.recv(_PIECE):
        pass


def _send(connected: socket.socket) -> None:
    """With the answer of the guest's kernel that it has everything: before, much is in buffers of the node."""
    data = bytes(_PIECE)
    for _ in range(MIB):
        connected.sendall(data)
    connected.shutdown(socket.SHUT_WR)
    connected.recv(1)  # the guest's program ends
