"""A port of the node that leads to the guest: checked before a start, and reserved until its program listens on it."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from hvcore.errors import HvError, OperationError, Problem
from hvcore.host.lock import is_held
from hvcore.host.network.installed_passt import default_routes
from hvcore.host.ports import bound_socket
from hvcore.host.processes.process import alive
from hvcore.host.record_file import read_record
from hvcore.model.codec import decode
from hvcore.model.network.guest_network import PortForward
from hvcore.model.plan import Step
from hvcore.model.record import LIFE_LOCK, RECORD_FILE, ProcessId, Record, of_program
from hvcore.params.network_types import Forward
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Site
from hvcore.resources.program import recorded_program

__all__ = ["FORWARDS", "PortForwardKind"]

FORWARDS: Final = "forwards"
"""In the record's bindings: each forward as in an instance file, with the port that is in use, by key."""

_FIRST_PORT: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


class PortForwardKind(ResourceKind[PortForward, int], name="forward", turn=Turn.NETWORK):
    """Bound by hvcore until the operation ends. Nothing of it outlives the operation but the program's own socket."""

    def verify(self, resource: PortForward, site: Site) -> Iterator[Problem]:
        """The port must be free, and one that a program without privileges may listen on."""
        forward = resource.forward
        problem = _refused(forward)
        if problem is None:
            try:
                _bound(forward).close()
            except OSError as error:
                if _kept(resource, site) is None and not _is_its_own(resource, site):
                    problem = _why_not(error)
        if problem is not None:
            yield Problem(path=resource.where, what=problem[0], got=repr(str(forward)), todo=problem[1])

    def describe(self, resource: PortForward, site: Site) -> Iterator[Step]:
        """Where the port leads."""
        one = resource.forward
        port = f"{one.protocol} port {one.port}" if one.port else f"a free {one.protocol} port"
        at = "all addresses of the node" if one.address is None else one.address
        yield Step(kind="port", what=f"{port} at {at} leads to port {one.guest_port} of the guest")

    def placeholder(self, resource: PortForward, site: Site) -> int:
        """The port; 0 for one that the start chooses."""
        return resource.forward.port

    def acquire(self, resource: PortForward, held: Held) -> int:
        """The port. Raises `OperationError` when it cannot be had."""
        owner, forward = held.owner, resource.forward
        if (problem := _refused(forward)) is not None:
            raise _error(resource, problem, held)
        port = _kept(resource, held.site)
        if port is None:
            try:
                reserved = _bound(forward)
            except OSError as error:
                raise _error(resource, _why_not(error), held) from error
            port = int(reserved.getsockname()[1])
            held.keep(reserved.detach())
        chosen = {**owner.record.bindings.get(FORWARDS, {}), resource.key: str(replace(forward, port=port))}
        owner.bind(**{FORWARDS: chosen})
        return port


def _refused(forward: Forward) -> tuple[str, str] | None:
    """Why no passt of this node can listen there, and what to do."""
    with suppress(OSError, ValueError):
        first = int(_FIRST_PORT.read_text(encoding="ascii"))
        if 0 < forward.port < first:
            what = (
                f"is a port below {first}, for which a program needs privileges (net.ipv4.ip_unprivileged_port_start)"
            )
            return what, f"use a port from {first} on"
    if forward.address is not None:
        family = 6 if ":" in forward.address else 4
        if family not in (routed := default_routes()) and routed:
            what = f"is at an IPv{family} address, and this node has no default route for IPv{family}"
            return what, f"add a route, or use an IPv{10 - family} address"
    return None


def _why_not(error: OSError) -> tuple[str, str]:
    if error.errno == errno.EADDRNOTAVAIL:
        return "is at an address that this node does not have", "use one of its addresses, or none for all"
    used = error.errno == errno.EADDRINUSE
    what = "is in use by another program or instance" if used else "cannot be opened"
    why = "" if used else f" ({os.strerror(error.errno or 0).lower()})"
    return f"{what}{why}", "use another port, or 0 for a free one"


def _error(resource: PortForward, problem: tuple[str, str], held: Held) -> OperationError:
    what, todo = problem
    got = repr(str(resource.forward))
    return OperationError(f"{held.owner.name}: {resource.where}: {what}, got {got}; {todo}")


def _bound(forward: Forward) -> socket.socket:
    """A socket bound to the port, or to a free one. Another program can bind to it only with SO_REUSEADDR, as passt does."""
    dual = forward.address is None and 6 in default_routes()
    return bound_socket(forward.protocol, forward.address, forward.port, dual=dual)


def _kept(resource: PortForward, site: Site) -> int | None:
    """The port, if a reboot holds it for the instance."""
    one = resource.forward
    return site.kept_port(resource.key, one.protocol, one.address, one.port)


def _is_its_own(resource: PortForward, site: Site) -> bool:
    """Whether the instance itself has the port, as before a reboot. Its program hides its sockets from other users."""
    try:
        record = read_record(site.dir / RECORD_FILE, site.name)
        return str(resource.forward) in record.bindings.get(FORWARDS, {}).values() and _runs(resource, record, site)
    except (HvError, OSError):
        return False


def _runs(resource: PortForward, record: Record, site: Site) -> bool:
    """Whether its program runs. passt of 2025 closes every file that it inherits, its life lock too."""
    if is_held(site.dir / of_program(resource.program, LIFE_LOCK)):
        return True
    process = recorded_program(record, resource.program).get("process")
    return process is not None and alive(decode(ProcessId, process, "bindings"))
