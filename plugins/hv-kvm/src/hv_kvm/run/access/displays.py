"""The displays of a guest when QEMU answers: passwords that QEMU cannot read from a file, and where each is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from hv_kvm.devices import spice as spice_family
from hv_kvm.devices import vnc as vnc_family
from hv_kvm.devices.spice import Spice
from hv_kvm.devices.vnc import Vnc
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.resource import PrivateCopy
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.paths import GuestPaths
from hv_kvm.qmp import QmpClient, commands, reach
from hv_kvm.resources.private_copy import ContentsError, password
from hvcore.plugin import Job, Live, OperationError, hookimpl

__all__ = ["on_ready", "vnc_password"]

_PROTOCOLS: Final = {vnc_family.PASSWORD: "vnc", spice_family.PASSWORD: "spice"}


@hookimpl
def on_ready(spec: KvmSpec, facts: Facts | None, client: QmpClient, job: Job) -> None:
    """Set the passwords before the guest runs, and record where the displays are."""
    if facts is not None and not facts.has_option("vnc", "password-secret"):
        _set_passwords(client, spec, job)
    _bind_displays(spec, client, job)


def _bind_displays(spec: KvmSpec, client: QmpClient, job: Job) -> None:
    displays: list[dict[str, object]] = []
    for spice in spec.of(Spice):
        host, _, port = str(job.record.bindings.get(spice_family.PORT, "")).rpartition(":")
        if port.isdigit():
            tcp = {"host": host, "port": int(port), "tls": spice.x509 is not None}
            displays.append({"kind": "spice", **tcp, "password": spice.password_file is not None})
    for vnc in spec.of(Vnc):
        guarded = {"tls": vnc.tls, "password": vnc.password_file is not None}
        server = commands.query_vnc(client, deadline_s=job.deadline.left())
        if vnc.unix:
            place = GuestPaths(job.dir).vnc if vnc.private else Path(vnc.bind)
            job.bind(vnc=str(place / f"{spec.name}.vnc" if place.is_dir() else place))
            displays.append({"kind": "vnc", "socket": str(GuestPaths(job.dir).vnc), **guarded})
        elif server is not None:
            job.bind(vnc=f"{server.host}:{server.port}")
            displays.append({"kind": "vnc", "host": server.host, "port": server.port, **guarded})
    if displays:
        job.bind(displays=displays)


def _set_passwords(client: QmpClient, spec: KvmSpec, job: Job) -> None:
    for copy in spec.resources_of(PrivateCopy):
        if copy.key in _PROTOCOLS:
            try:
                secret = password(copy)
            except ContentsError as error:
                param = copy.where.removeprefix("params.")
                raise OperationError(f"{job.name}: {copy.path!r} {error}; correct {param}") from error
            protocol = _PROTOCOLS[copy.key]
            commands.set_password(client, protocol=protocol, password=secret, deadline_s=job.deadline.left())


def vnc_password(live: Live, job: Job, password: str, valid_s: float | None) -> None:
    """Set the password of new VNC connections. Raises `OperationError` if the display asks for none.

    Between the two commands, the display lets in fewer clients than before, not more.
    """
    found = [one for one in live.record.bindings.get("displays", ()) if one.get("kind") == "vnc"]
    # A record of an older release has no list: then QEMU refuses.
    if not any(one.get("password") for one in found) and (found or "vnc" not in live.record.bindings):
        what = "its VNC display asks for no password" if found else "it has no VNC display"
        todo = "set vnc_bind_address and vnc_password_file, then stop and start it"
        raise OperationError(f"{job.name}: the password cannot be set, {what}; {todo}")
    seconds = None if valid_s is None else max(1, math.ceil(valid_s))
    with reach(live.dir, job.deadline.left()) as client:
        if seconds is not None:
            commands.expire_password(client, protocol="vnc", valid_s=seconds, deadline_s=job.deadline.left())
        commands.set_password(client, protocol="vnc", password=password, deadline_s=job.deadline.left())
        if seconds is None:
            commands.expire_password(client, protocol="vnc", valid_s=None, deadline_s=job.deadline.left())
