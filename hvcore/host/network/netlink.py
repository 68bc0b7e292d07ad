"""Requests to the kernel by rtnetlink(7): a socket, and the attributes of messages.

`hvcore.host.network.links` has the requests about links. pyroute2 has all of rtnetlink and takes 120 ms to import, more
than everything else that a start with a NIC adds (decision 21).
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Self, TypeVar

from hvcore.host.libc import libc_call
from hvcore.host.threads import in_thread

__all__ = [
    "ACK",
    "CREATE",
    "DUMP",
    "EXCL",
    "REPLACE",
    "Netlink",
    "attribute",
    "attributes",
    "family_of",
    "in_network_of",
    "nested",
]

# linux/netlink.h
_REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
REPLACE: Final = 0x100
EXCL: Final = 0x200
CREATE: Final = 0x400
_ERROR, _DONE = 2, 3
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _GET_STRICT_CHK = 270, 10, 11, 12
_ACK_TLVS, _ERROR_TEXT = 0x200, 1
_NESTED, _TYPE = 0x8000, 0x3FFF

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVED: Final = 65536
_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h

T = TypeVar("T")


class Netlink(AbstractContextManager["Netlink"]):
    """A socket to the kernel, for the network namespace of the thread that opens it, or of process ``pid``.

    ``protocol`` is one of netlink(7). Requests raise OSError with the kernel's own words.
    """

    def __init__(self, *, pid: int | None = None, protocol: int = socket.NETLINK_ROUTE) -> None:
        self._socket = _opened(protocol) if pid is None else in_network_of(pid, lambda: _opened(protocol))
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        """Send one request and return the bodies of the answers. ``flags`` has DUMP for a list of all."""
        self._number += 1
        flags |= _REQUEST | (0 if flags & DUMP == DUMP else ACK)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._number, 0) + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(_RECEIVED)
            for answer, its_flags, number, its_body in _messages(data):
                if number != self._number:
                    continue  # the rest of an answer to a request that failed
                if answer == _ERROR:
                    _raise(its_body, its_flags)
                    return found
                if answer == _DONE:
                    return found
                found.append(its_body)


def _opened(protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        for option in (_CAP_ACK, _EXT_ACK, _GET_STRICT_CHK):
            made.setsockopt(_SOL_NETLINK, option, 1)
        made.bind((0, 0))
    except BaseException:
        made.close()
        raise
    return made


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, number and body of each message."""
    place = 0
    while place + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, place)
        if length < _HEADER.size:
            raise OSError(errno.EBADMSG, "netlink: a message is shorter than its header")
        yield kind, flags, number, data[place + _HEADER.size : place + length]
        place += _aligned(length)


def _raise(body: bytes, flags: int) -> None:
    (code,) = struct.unpack_from("=i", body)
    if code == 0:
        return
    text = os.strerror(-code)
    if flags & _ACK_TLVS:
        said = attributes(body[4 + _HEADER.size :]).get(_ERROR_TEXT, b"").rstrip(b"\0").decode("utf-8", "replace")
        text = f"{text}: {said}" if said else text
    raise OSError(-code, text)


def attribute(kind: int, value: int | str | bytes) -> bytes:
    """One attribute: a number of 32 bits, a text, or bytes."""
    if isinstance(value, int):
        data = struct.pack("=I", value)
    else:
        data = value.encode() + b"\0" if isinstance(value, str) else value
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + bytes(_aligned(length) - length)


def nested(kind: int, *inner: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(inner))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in ``data`` by their kind; of several of one kind the last."""
    return dict(attribute_list(data))


def attribute_list(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The kind and the contents of each attribute in ``data``, in their order."""
    place = 0
    while place + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, place)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE, data[place + _ATTRIBUTE.size : place + length]
        place += _aligned(length)


def family_of(version: int) -> int:
    """The address family of that IP version, 4 or 6."""
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def in_network_of(pid: int, call: Callable[[], T]) -> T:
    """Call it in the network namespace of that process, in a new thread: only that thread enters the namespace."""

    def enter() -> T:
        with open(f"/proc/{pid}/ns/net", "rb") as namespace:
            libc_call("setns", namespace.fileno(), _CLONE_NEWNET)
        return call()

    return in_thread(enter, name="network namespace")
