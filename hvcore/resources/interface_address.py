"""The address of a network interface of the node, looked up when an instance starts."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from hvcore.errors import OperationError, Problem
from hvcore.model.plan import Step
from hvcore.model.resource import InterfaceAddress
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Site

__all__ = ["InterfaceAddressKind", "address_of"]

# linux/sockios.h
_SIOCGIFADDR: Final = 0x8915
# net/addrconf.h: how far an IPv6 address reaches. A link-local one would need a zone, which is true on one node only.
_GLOBAL, _HOST = 0x00, 0x10


class InterfaceAddressKind(ResourceKind[InterfaceAddress, str], name="address", turn=Turn.NETWORK):
    """Looked up and not held: the interface may get another address later."""

    def verify(self, resource: InterfaceAddress, site: Site) -> Iterator[Problem]:
        """The interface has to be there, and to have an address."""
        found = _look_up(resource)
        if isinstance(found, Problem):
            yield found

    def describe(self, resource: InterfaceAddress, site: Site) -> Iterator[Step]:
        """Whose address is taken."""
        param = resource.where.removeprefix("params.")
        yield Step(kind="address", what=f"take that of {resource.interface} for {param}")

    def placeholder(self, resource: InterfaceAddress, site: Site) -> str:
        """``{address:eth0}``."""
        return f"{{address:{resource.interface}}}"

    def acquire(self, resource: InterfaceAddress, held: Held) -> str:
        """The address."""
        found = _look_up(resource)
        if isinstance(found, Problem):
            raise OperationError(f"{held.owner.name}: {found}")
        return found


def _look_up(resource: InterfaceAddress) -> str | Problem:
    """The address, or why there is none: the same for a check before a start and for the start."""
    path, got = resource.where, repr(resource.interface)
    todo = "name an interface of this node"
    try:
        address = address_of(resource.interface, resource.family)
    except OSError as error:
        return Problem(path=path, what=f"is no interface of this node ({error.strerror})", got=got, todo=todo)
    if address is None:
        kind = f"IPv{resource.family} address" if resource.family else "address"
        todo = "give it one, or name another"
        return Problem(path=path, what=f"is an interface without an {kind}", got=got, todo=todo)
    return address


def address_of(interface: str, family: int) -> str | None:
    """The first address of the interface: IPv4 for ``family`` 4, IPv6 for 6, for 0 the first of both that there is.

    None when it has none. Raises OSError when there is no such interface.
    """
    if interface not in os.listdir("/sys/class/net"):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), interface)
    found = None if family == 6 else _ipv4(interface)
    return found if found is not None or family == 4 else _ipv6(interface)


def _ipv4(interface: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            reply = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", os.fsencode(interface)[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])


def _ipv6(interface: str) -> str | None:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:  # a kernel without IPv6
        return None
    own = [(int(row[3], 16), row[0]) for row in rows if row[5] == interface]
    for wanted in (_GLOBAL, _HOST):
        for scope, digits in own:
            if scope == wanted:
                return str(ipaddress.ip_address(bytes.fromhex(digits)))
    return None
