"""The stream of a migration on one node: the relay beside QEMU, and the sockets between the two in the guest's directory."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.machine.resource import GUEST_USER
from hv_kvm.paths import MIGRATION, GuestPaths
from hv_kvm.qmp import QmpClient, migration_commands
from hv_kvm.resources.guest_directory import GUEST_DIR
from hv_kvm.run.hotplug.guest_device import level_in
from hv_kvm.run.migration import relay
from hv_kvm.run.migration.credentials import Credentials

__all__ = ["DISKS", "RELAY", "close_stream", "listen", "place_of", "relay_said", "send_to", "take_from", "uri_of"]

RELAY: Final = "migration"
"""The key of the relay."""

DISKS: Final = "disks"
"""The route of copies of disks."""

_PROGRAMS: Final = "companions"  # in the record's bindings, by the core
_PYTHON: Final = "/usr/bin/python3"
_LOG_BYTES: Final = 1 << 20
_BACKLOG: Final = 64
_READY: Final = b"\n"


def listen(name: str, host: str, ports: range) -> socket.socket:
    """A socket that listens at that address, at the first free one of the ports. Empty for all addresses, 0 for any port.

    Raises `OperationError` for an address that this node does not have, and if another program has every port.
    """
    for port in ports:
        try:
            return _listening(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port != ports[-1]:
                continue
            where = f"{host or 'all addresses'} port {port if len(ports) == 1 else f'{ports[0]} to {ports[-1]}'}"
            # An address that cannot be looked up has a number of another kind.
            why = str(error.strerror) if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            what = f"{name}: cannot wait for the guest at {where}, got {why}"
            raise hv.OperationError(f"{what}; choose another address or port") from error
    raise ValueError("no port was given")


def _listening(host: str, port: int) -> socket.socket:
    if host:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server(("", port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)


def take_from(
    job: hv.Job, client: QmpClient, listener: socket.socket, landing: hv.Landing, own: Credentials | None, peer: str
) -> None:
    """Begin to take streams from the network, for QEMU's sockets. Without ``own`` credentials they are plain."""
    routes = {route: f"{MIGRATION}.{route}" for route in _routes(landing)}
    _launch(job, client, {"sends": False, "ticket": landing.ticket, "routes": routes}, [listener], (own, peer))


def send_to(job: hv.Job, client: QmpClient, landing: hv.Landing, own: Credentials | None) -> None:
    """Begin to take QEMU's connections, and to carry each to where the guest lands."""
    where = {"host": landing.host, "port": landing.port, "ticket": landing.ticket}
    with ExitStack() as opened:
        listeners = [opened.enter_context(_guest_socket(job, route)) for route in _routes(landing)]
        settings = {**where, "sends": True, "routes": dict.fromkeys(_routes(landing), "")}
        _launch(job, client, settings, listeners, (own, landing.certificate))


def _routes(landing: hv.Landing) -> tuple[str, ...]:
    return (relay.MAIN, DISKS) if landing.disks else (relay.MAIN,)


def _guest_socket(job: hv.Job, route: str) -> socket.socket:
    """A listening socket in the guest's directory that QEMU can connect to."""
    path = GuestPaths(job.dir).guest / f"{MIGRATION}.{route}"
    path.unlink(missing_ok=True)
    place = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        made = socket.socket(socket.AF_UNIX)
        os.fchmod(made.fileno(), 0o600)
        made.bind(f"/proc/self/fd/{place}/{path.name}")  # the path may be too long for a socket's address
        uid = job.record.bindings.get("uid")
        if uid is not None:
            os.chown(path.name, uid, uid, dir_fd=place, follow_symlinks=False)
        made.listen(_BACKLOG)
        return made
    finally:
        os.close(place)


def uri_of(job: hv.Job, route: str) -> str:
    """The socket of that route as QEMU names it."""
    return f"unix:{place_of(job, route)}"


def place_of(job: hv.Job, route: str) -> str:
    """The path of the socket of that route as QEMU sees it; through the relay if QEMU is not confined: it is short."""
    if level_in(job.record) is not hv.Level.OFF:
        return f"{GUEST_DIR}/{MIGRATION}.{route}"
    pid = job.record.bindings[_PROGRAMS][RELAY]["process"]["pid"]
    return f"/proc/{pid}/cwd/{MIGRATION}.{route}"


def relay_said(directory: os.PathLike[str]) -> str:
    """The last line in the relay's log; empty if it has said nothing."""
    try:
        with open(f"{os.fspath(directory)}/{RELAY}.{hv.LOG}", encoding="utf-8", errors="replace") as log:
            lines = log.read(_LOG_BYTES).splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def close_stream(job: hv.Job, client: QmpClient) -> None:
    """End the relay, and forget it: the guest does not need it any more."""
    if not any(entry.key == RELAY for entry in job.record.ledger):
        return
    migration_commands.closefd(client, [RELAY], deadline_s=job.deadline.left())
    job.release(RELAY)
    for route in (relay.MAIN, DISKS):
        with suppress(OSError):  # the guest may have put something else there
            (GuestPaths(job.dir).guest / f"{MIGRATION}.{route}").unlink()
    beside = job.record.bindings.get(_PROGRAMS, {})
    job.bind(**{_PROGRAMS: {key: about for key, about in beside.items() if key != RELAY}})


def _launch(
    job: hv.Job,
    client: QmpClient,
    settings: Mapping[str, Any],
    listeners: list[socket.socket],
    trust: tuple[Credentials | None, str],
) -> None:
    """Start the relay, give it its settings, and wait until it has taken them. Raises `OperationError`.

    It ends when the other end of its control socket is closed, which QEMU keeps.
    """
    bound, level = job.record.bindings, level_in(job.record)
    if GUEST_USER not in job.held:
        uid = bound.get("uid")
        job.held[GUEST_USER] = None if uid is None else hv.AsUser(uid, bound.get("gid"), tuple(bound.get("groups", ())))
    own, peer = trust
    program = _program(job, sends=bool(settings["sends"]))
    keys = {"key": own.key, "certificate": own.certificate, "peer": peer} if own is not None else {"peer": ""}
    whole = {**settings, **keys, "directory": str(GuestPaths(job.dir).guest)}
    number = int(job.acquire(program, level=level)[program])
    with socket.socket(fileno=os.dup(number)) as control:
        job.prove(program, level=level)
        try:
            line = json.dumps(whole).encode() + b"\n"
            socket.send_fds(control, [line], [listener.fileno() for listener in listeners])
            control.settimeout(job.deadline.left())
            if control.recv(1) != _READY:
                raise ConnectionError("it has ended")
        except OSError as error:
            said = relay_said(job.dir) or str(error)
            raise hv.OperationError(
                f"{job.name}: the relay of its stream is not ready: {said}; see {job.dir}"
            ) from error
        migration_commands.getfd(client, RELAY, control.fileno(), deadline_s=job.deadline.left())
    job.held.close_passed()


def _program(job: hv.Job, *, sends: bool) -> hv.Program:
    script, directory = os.path.realpath(relay.__file__), str(GuestPaths(job.dir).guest)
    return hv.Program(
        key=RELAY,
        binary=os.path.realpath(sys.executable or _PYTHON),
        package="python3",
        arguments=("-I", "-S", script.replace("{", "{{").replace("}", "}}"), "{fd}"),
        owner=GUEST_USER,
        network=sends,
        proc=True,
        reads=(script, directory),
        largest_file_bytes=_LOG_BYTES,
    )
