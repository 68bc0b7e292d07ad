"""A TCP port of the node that a program is told to serve on."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Final

from hvcore.errors import OperationError, Problem
from hvcore.model.plan import Step
from hvcore.model.resource import TcpPort
from hvcore.resources.held import Held
from hvcore.resources.interface_address import address_of
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Site

__all__ = ["TcpPortKind", "port_problem", "reserve_port"]

_TRIES: Final = 1000


class TcpPortKind(ResourceKind[TcpPort, str], name="port", turn=Turn.NETWORK):
    """A port that was named, or the first free one, reserved until the program listens on it."""

    def verify(self, resource: TcpPort, site: Site) -> Iterator[Problem]:
        """A port that was named has to be free. Of an interface without an address that one speaks."""
        bind = _bind(resource)
        if resource.port is None or bind is None:
            return
        why = port_problem(bind, resource.port)
        if why is not None:
            what = f"cannot be listened on at {bind} ({why})"
            yield Problem(path=resource.where, what=what, got=str(resource.port), todo="choose another, or unset it")

    def describe(self, resource: TcpPort, site: Site) -> Iterator[Step]:
        """The port, where the start chooses it."""
        if resource.port is None:
            yield Step(kind="port", what=f"choose the first free one from {resource.first} for {resource.key}")

    def placeholder(self, resource: TcpPort, site: Site) -> str:
        """The port, or ``{port:spice}`` for one that the start chooses."""
        return str(resource.port) if resource.port is not None else f"{{port:{resource.key}}}"

    def acquire(self, resource: TcpPort, held: Held) -> str:
        """The port. Raises `OperationError` when none is free."""
        bind = resource.bind if isinstance(resource.bind, str) else held[resource.bind]
        port = resource.port if resource.port is not None else _chosen(resource, bind, held)
        held.owner.bind(**{resource.key: f"{bind}:{port}"})
        return str(port)


def _bind(resource: TcpPort) -> str | None:
    if isinstance(resource.bind, str):
        return resource.bind
    try:
        return address_of(resource.bind.interface, resource.bind.family)
    except OSError:
        return None


def _chosen(wanted: TcpPort, bind: str, held: Held) -> int:
    name = held.owner.name
    try:
        reserved = reserve_port(bind, wanted.first)
    except OSError as error:
        what = f"{name}: cannot listen at {bind} for {wanted.key}, got {error.strerror}"
        raise OperationError(f"{what}; correct {wanted.where}, or the address") from error
    if reserved is None:
        what = f"no free port from {wanted.first} on at {bind} for {wanted.key}"
        raise OperationError(f"{name}: {what}; set {wanted.where}")
    port = int(reserved.getsockname()[1])
    held.keep(reserved.detach())
    return port


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
    """A socket bound to the first port from ``first`` on that is free at that address; None when none of 1000 is.

    While it is open, no other start chooses that port, the kernel gives it to no program that asks for any port, and a
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
