"""The displays of a guest when QEMU answers: passwords that QEMU cannot read from a file, and the address of VNC."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hv_kvm.devices import spice as spice_family
from hv_kvm.devices import vnc as vnc_family
from hv_kvm.devices.vnc import Vnc
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.resource import PrivateCopy
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpClient, commands
from hv_kvm.resources.private_copy import ContentsError, password
from hvcore.plugin import Job, OperationError, hookimpl

__all__ = ["on_ready"]

_PROTOCOLS: Final = {vnc_family.PASSWORD: "vnc", spice_family.PASSWORD: "spice"}


@hookimpl
def on_ready(spec: KvmSpec, facts: Facts | None, client: QmpClient, job: Job) -> None:
    """Set the passwords before the guest runs, and record the address of VNC."""
    if facts is not None and not facts.has_option("vnc", "password-secret"):
        _set_passwords(client, spec, job)
    for vnc in spec.of(Vnc):
        server = commands.query_vnc(client, deadline_s=job.deadline.left())
        if vnc.unix:
            place = Path(vnc.bind)
            job.bind(vnc=str(place / f"{spec.name}.vnc" if place.is_dir() else place))
        elif server is not None:
            job.bind(vnc=f"{server.host}:{server.port}")


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
