"""Packets of a test at a known rate, and the rate at which they arrive."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["KIND", "flood", "packet", "rate_of"]

KIND: Final = 0x88B5  # an Ethernet type for experiments
_PACKET_BYTES: Final = 1400
_SECONDS, _WARM_S = 1.0, 0.3


def packet(source: str, to: str) -> bytes:
    addresses = bytes.fromhex((to + source).replace(":", ""))
    return addresses + KIND.to_bytes(2, "big") + bytes(_PACKET_BYTES - 14)


@contextmanager
def flood(write: Callable[[bytes], object], data: bytes) -> Iterator[None]:
    """Send that packet at about 60 Mbit/s in a thread, until the block ends."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.002):
            with suppress(OSError):  # a full queue
                for _ in range(11):
                    write(data)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def rate_of(fd: int) -> float:
    """Bits per second of the packets of ours at the descriptor, after the first burst."""
    received, began = 0, 0.0
    warm = time.monotonic() + _WARM_S
    while (now := time.monotonic()) < (began or warm) + _SECONDS:
        if not select.select([fd], [], [], 10.0)[0]:
            break
        data = os.read(fd, 2048)
        if data[12:14] == KIND.to_bytes(2, "big") and now > warm:
            began = began or now
            received += len(data)
    return received * 8 / (time.monotonic() - began)
