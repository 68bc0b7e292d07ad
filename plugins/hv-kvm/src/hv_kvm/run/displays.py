"""Where a guest's displays are served on this node, and the passwords that they ask for. Impure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hv_kvm.devices import spice as spice_family
from hv_kvm.devices import vnc as vnc_family
from hv_kvm.devices.vnc import Vnc
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.spec import KvmSpec, Port
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import QmpClient, commands
from hv_kvm.resources.addresses import address_of, reserve_port
from hv_kvm.resources.handed import HandedError, password
from hvcore.plugin import Job, OperationError

__all__ = ["addresses", "link", "note_displays", "ports", "set_passwords"]


def addresses(spec: KvmSpec, job: Job) -> dict[str, str]:
    """The addresses of the interfaces that the spec names. Raises `OperationError` for one that has none."""
    found = {}
    for wanted in spec.each(lambda device: device.interfaces()):
        try:
            address = address_of(wanted.name, wanted.family)
        except OSError as error:
            what = f"{wanted.param} {wanted.name!r} cannot be used, got {error.strerror}"
            raise OperationError(f"{job.name}: {what}; name an interface of this node") from error
        if address is None:
            what = f"{wanted.param} {wanted.name!r} has no address to listen on"
            raise OperationError(f"{job.name}: {what}; give it one, or name another")
        found[wanted.key] = address
    return found


def ports(spec: KvmSpec, job: Job, found: dict[str, str], keep: Callable[[int], None]) -> dict[str, str]:
    """The ports that the spec leaves open, chosen, and those that it names. Raises `OperationError` when none is free.

    ``keep`` gets a descriptor for each one chosen, to stay open until QEMU listens there.
    """
    chosen = {}
    keys = {wanted.name: wanted.key for wanted in spec.each(lambda device: device.interfaces())}
    for wanted in spec.each(lambda device: device.ports()):
        bind = found[keys[wanted.bind]] if wanted.bind in keys else wanted.bind
        port = wanted.port if wanted.port is not None else _chosen(wanted, bind, job, keep)
        chosen[wanted.name] = str(port)
        job.bind(**{wanted.name: f"{bind}:{port}"})
    return chosen


def _chosen(wanted: Port, bind: str, job: Job, keep: Callable[[int], None]) -> int:
    try:
        reserved = reserve_port(bind, wanted.first)
    except OSError as error:
        what = f"{job.name}: cannot listen at {bind} for {wanted.name}, got {error.strerror}"
        raise OperationError(f"{what}; correct {wanted.param}, or the address") from error
    if reserved is None:
        what = f"no free port from {wanted.first} on at {bind} for {wanted.name}"
        raise OperationError(f"{job.name}: {what}; set {wanted.param}")
    port = int(reserved.getsockname()[1])
    keep(reserved.detach())
    return port


def set_passwords(client: QmpClient, spec: KvmSpec, facts: Facts, job: Job) -> None:
    """Give QEMU the passwords that it cannot read itself, while the guest does not run yet."""
    if facts.has_option("vnc", "password-secret"):
        return
    protocols = {vnc_family.PASSWORD: "vnc", spice_family.PASSWORD: "spice"}
    for handed in spec.each(lambda device: device.handed()):
        if handed.name in protocols:
            try:
                secret = password(handed)
            except HandedError as error:
                raise OperationError(f"{job.name}: {handed.path!r} {error}; correct {handed.param}") from error
            protocol = protocols[handed.name]
            commands.set_password(client, protocol=protocol, password=secret, deadline_s=job.deadline.left())


def note_displays(client: QmpClient, spec: KvmSpec, job: Job) -> None:
    """Record where each display is served; a unix socket gets a link at the path that was asked for."""
    for vnc in spec.of(Vnc):
        server = commands.query_vnc(client, deadline_s=job.deadline.left())
        if vnc.unix:
            link(Path(vnc.bind), GuestPaths(job.dir).vnc, job)
            job.bind(vnc=vnc.bind)
        elif server is not None:
            job.bind(vnc=f"{server.host}:{server.port}")


def link(path: Path, target: Path, job: Job) -> None:
    """A link at the path, unless it is there already. Raises `OperationError` when something else is."""
    try:
        path.symlink_to(target)
    except FileExistsError:
        if path.is_symlink() and path.readlink() == target:
            return
        raise OperationError(f"{job.name}: {str(path)!r} exists already; remove it or choose another path") from None
    except OSError as error:
        raise OperationError(
            f"{job.name}: {str(path)!r} cannot be made, got {error.strerror}; choose another"
        ) from error
