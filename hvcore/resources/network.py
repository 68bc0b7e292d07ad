"""What a program listens on: the address of a network interface of the node, and a TCP port."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from hvcore.errors import OperationError, Problem
from hvcore.host.ports import bound_socket, listening, reserve_port
from hvcore.host.processes.launched import marked_for
from hvcore.model.plan import Step
from hvcore.model.resource import InterfaceAddress, TcpPort
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Site

__all__ = ["InterfaceAddressKind", "TcpPortKind"]

# linux/sockios.h
_SIOCGIFADDR: Final = 0x8915
# net/addrconf.h: how far an IPv6 address reaches. A link-local one would need a zone, which is true on one node only.
_GLOBAL, _HOST = 0x00, 0x10


class InterfaceAddressKind(ResourceKind[InterfaceAddress, str], name="address", turn=Turn.NETWORK):
    """The address is read at the start and not reserved: the interface may get another address later."""

    def verify(self, resource: InterfaceAddress, site: Site) -> Iterator[Problem]:
        """The interface must exist and have an address."""
        found = _look_up(resource)
        if isinstance(found, Problem):
            yield found

    def describe(self, resource: InterfaceAddress, site: Site) -> Iterator[Step]:
        """One step: the interface whose address is used."""
        param = resource.where.removeprefix("params.")
        yield Step(kind="address", what=f"take the address of {resource.interface} for {param}")

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
    """The address, or the reason against it: the same for a check before a start and for the start.

    IPv4 for ``family`` 4, IPv6 for 6, for 0 the first of both that the interface has.
    """
    path, interface, family, got = resource.where, resource.interface, resource.family, repr(resource.interface)
    if interface not in os.listdir("/sys/class/net"):
        what = f"is not a network interface of this node ({os.strerror(errno.ENODEV)})"
        return Problem(path=path, what=what, got=got, todo="name an interface of this node")
    address = (_ipv4(interface) if family != 6 else None) or (_ipv6(interface) if family != 4 else None)
    if address is None:
        what = f"is an interface without an {f'IPv{family} ' if family else ''}address"
        return Problem(path=path, what=what, got=got, todo="give it one, or name another")
    return address


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
    found = (digits for reach in (_GLOBAL, _HOST) for scope, digits in own if scope == reach)
    return next((str(ipaddress.ip_address(bytes.fromhex(digits))) for digits in found), None)


class TcpPortKind(ResourceKind[TcpPort, str], name="port", turn=Turn.NETWORK):
    """A port that was named, or the first free one, reserved until the program listens on it."""

    def verify(self, resource: TcpPort, site: Site) -> Iterator[Problem]:
        """The address must be one of the node, and a named port free. The interface reports a missing address itself."""
        bind = resource.bind if isinstance(resource.bind, str) else _look_up(resource.bind)
        if isinstance(bind, Problem):
            return
        # Port 0 is any free one: then only the address can be wrong.
        why = _port_problem(bind, resource.port or 0)
        if (
            why is None
            or site.kept_port(resource.key, "tcp", bind, resource.port) is not None
            or (resource.port and _listens_itself(site, resource.port))
        ):
            return
        if resource.port:
            what = f"cannot be opened at {bind} ({why})"
            yield Problem(path=resource.where, what=what, got=str(resource.port), todo="choose another, or unset it")
        else:
            todo = f"set {resource.where.removeprefix('params.')} to an address of this node"
            yield Problem(path=resource.where, what=f"cannot be opened at {bind} ({why})", todo=todo)

    def describe(self, resource: TcpPort, site: Site) -> Iterator[Step]:
        """The port, where the start chooses it."""
        if resource.port is None:
            yield Step(kind="port", what=f"take the first free port from {resource.first} for {resource.key}")

    def placeholder(self, resource: TcpPort, site: Site) -> str:
        """The port, or ``{port:spice}`` for one that the start chooses."""
        return str(resource.port) if resource.port is not None else f"{{port:{resource.key}}}"

    def acquire(self, resource: TcpPort, held: Held) -> str:
        """The port. Raises `OperationError` when no port is free."""
        bind = resource.bind if isinstance(resource.bind, str) else held[resource.bind]
        port = 0 if resource.port == 0 else _reserved(resource, bind, held)
        held.owner.bind(**{resource.key: f"{bind}:{port}"})
        return str(port)


def _reserved(wanted: TcpPort, bind: str, held: Held) -> int:
    """The port, reserved. Not for port 0, which the program chooses."""
    name = held.owner.name
    kept = held.site.kept_port(wanted.key, "tcp", bind, wanted.port)
    if kept is not None:
        return kept
    try:
        named = wanted.port is not None
        reserved = bound_socket("tcp", bind, wanted.port or 0) if named else reserve_port(bind, wanted.first)
    except OSError as error:
        at = bind if wanted.port is None else f"port {wanted.port} of {bind}"
        what = f"{name}: cannot listen at {at} for {wanted.key}, got {error.strerror}"
        raise OperationError(f"{what}; correct {wanted.where} or the address") from error
    if reserved is None:
        what = f"no free port at {bind} from {wanted.first} up for {wanted.key}"
        raise OperationError(f"{name}: {what}; set {wanted.where}")
    port = int(reserved.getsockname()[1])
    held.keep(reserved.detach())
    return port


def _port_problem(address: str, port: int) -> str | None:
    """Why no program can listen on that port of the address, in the kernel's words; None when one can."""
    try:
        bound_socket("tcp", address, port).close()
    except OSError as error:
        return os.strerror(error.errno or 0).lower()
    return None


def _listens_itself(site: Site, port: int) -> bool:
    """Whether a process of the instance listens on the port: a reboot will free it."""
    own = {link for pid in marked_for(site.dir, site.host.uid_pool) for link in _open_sockets(pid)}
    return bool(own) and not own.isdisjoint(listening("tcp", port))


def _open_sockets(pid: int) -> Iterator[str]:
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if link.startswith("socket:"):
                    yield link
