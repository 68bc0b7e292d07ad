"""What a network interface of this node is called by address, and which port of an address is free. Impure."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from typing import Final

__all__ = ["address_of", "is_interface", "port_problem", "reserve_port"]

# linux/sockios.h
_SIOCGIFADDR: Final = 0x8915
# net/addrconf.h: how far an IPv6 address reaches. A link-local one would need a zone, which is true on one node only.
_GLOBAL, _HOST = 0x00, 0x10
_TRIES: Final = 1000


def is_interface(name: str) -> bool:
    """True for what is no address: parameters take interface names beside those."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


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


def port_problem(address: str, port: int) -> str | None:
    """Why nothing can listen on that port of that address, in the kernel's words; None when something can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
            probe.listen(1)
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    return None


def reserve_port(address: str, first: int) -> socket.socket | None:
    """A socket bound to the first port from ``first`` on that nobody has at that address; None when none of a thousand is.

    For as long as it is open, no other start chooses that port, the kernel gives it to nobody who asks for any, and a
    server that sets SO_REUSEADDR, as SPICE's does, can be told to listen on it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in range(first, first + _TRIES):
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.bind((address, port))  # without SO_REUSEADDR, so that it is ours alone
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        except OSError as error:
            made.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return made
    return None
