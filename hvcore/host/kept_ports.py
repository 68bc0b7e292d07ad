"""Ports of an instance from before the stop of a reboot until its start has taken them over.

The listening sockets of the running programs are copied. Such a copy keeps the port when the program has exited. When
the start launches its programs, the copy is shut down: it listens no longer, but it is still bound. Only a program that
sets SO_REUSEADDR can bind to the port then, as the programs of guests do.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.lock import close_in_children, close_lock
from hvcore.host.ports import bound_socket, listening
from hvcore.host.processes.copied_fds import copied_fds

__all__ = ["KeptPorts", "ServedPort"]

_ALL: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPort:
    """A port that the program of resource ``key`` serves on; ``address`` is None for all addresses of the node."""

    key: str
    protocol: str
    address: str | None
    port: int


class KeptPorts:
    """The ports that are held, with the descriptors that keep them."""

    def __init__(self) -> None:
        self._wanted: list[ServedPort] = []
        self._fds: dict[tuple[str, int], list[int]] = {}

    def hold(self, ports: Iterable[ServedPort], pids: Iterable[int]) -> None:
        """Hold these ports, on which one of these processes listens."""
        self._wanted += ports
        keys = {(one.protocol, one.port) for one in self._wanted}
        sockets = {link: key for key in keys for link in listening(*key)}
        if not sockets:
            return
        ours = os.readlink("/proc/self/ns/net")
        near = [pid for pid in pids if _network_of(pid) == ours]  # elsewhere the same port is another one
        for link, fd in copied_fds(near, sockets.__contains__):
            self._fds.setdefault(sockets[link], []).append(fd)

    def stopped(self) -> None:
        """The programs have exited: bind to the ports whose sockets could not be copied."""
        for wanted in self._wanted:
            if (wanted.protocol, wanted.port) not in self._fds:
                with suppress(OSError):  # another program was faster, and the start says so
                    fd = bound_socket(wanted.protocol, wanted.address, wanted.port).detach()
                    close_in_children(fd)
                    self._fds[wanted.protocol, wanted.port] = [fd]

    def let_listen(self) -> None:
        """The programs of the start are launched now: they can listen on the ports."""
        for fds in self._fds.values():
            for fd in fds:
                with socket.socket(fileno=os.dup(fd)) as one:
                    with suppress(OSError):  # a socket that does not listen
                        one.shutdown(socket.SHUT_RDWR)
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def port_of(self, key: str, protocol: str, address: str | None, port: int | None) -> int | None:
        """That port if it is held; for port 0 or None, the one that the resource of that key had. Else None.

        It stays held until the reboot ends.
        """
        for one in self._wanted:
            if (one.protocol == protocol and one.port == port) or (not port and one.key == key):
                fds = self._fds.get((protocol, one.port), ())
                if any(_is_at(fd, address) for fd in fds):
                    return one.port
        return None

    def close(self) -> None:
        """Give up the ports: the program of the start listens on them now."""
        while self._fds:
            for fd in self._fds.popitem()[1]:
                close_lock(fd)


def _network_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return None


def _is_at(fd: int, address: str | None) -> bool:
    with socket.socket(fileno=os.dup(fd)) as one:
        at = str(one.getsockname()[0])
    if address is None:
        return at in _ALL
    return ipaddress.ip_address(at) == ipaddress.ip_address(address)
