"""A guest that waits for its state: started like any other, but without its memory and its CPUs."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpClient, QmpCommandError, migration_commands, reach
from hv_kvm.run.migration import capabilities, stream
from hv_kvm.run.migration.capabilities import MIRROR
from hv_kvm.run.migration.credentials import credentials
from hv_kvm.run.migration.disk_copies import copied_disks, export_disks
from hv_kvm.run.migration.progress import LANDING
from hv_kvm.run.migration.relay import MAIN
from hv_kvm.run.startup import start
from hv_kvm.run.tuning.vcpus import complete_vcpus

__all__ = ["land"]

_WAITING: Final = ("-incoming", "defer")
_MOST_AT_ONCE: Final = 64
_LAST_PORT: Final = 65535
_TICKET_BYTES: Final = 16


def land(hooks: hv.Hooks, spec: KvmSpec, job: hv.Job, offer: hv.Offer, wish: hv.LandingWish) -> hv.Landing:
    """Where the guest waits. It is started unless it waits already. Raises `OperationError`."""
    if LANDING in job.record.bindings:
        return hv.decode(hv.Landing, job.record.bindings[LANDING], LANDING)
    # Several guests may arrive at the same time: then the parameter is the first of a few ports.
    port = offer.port if wish.port is None else wish.port
    last = port if wish.port is not None or port == 0 else min(port + _MOST_AT_ONCE - 1, _LAST_PORT)
    with closing(
        stream.listen(job.name, wish.host, range(port, last + 1))
    ) as listener:  # first: another program may have the port
        start.bring_up(hooks, spec, job, waits=_WAITING)
        own = credentials(job.dir) if wish.tls else None
        landing = hv.Landing(
            job=wish.job,
            host=wish.host,
            port=listener.getsockname()[1],
            certificate="" if own is None else own.certificate,
            ticket=secrets.token_hex(_TICKET_BYTES),
            disks=copied_disks(spec) if wish.storage == MIRROR else (),
        )
        job.progress(f"waiting for the guest at port {landing.port}")
        with reach(job.dir, job.deadline.left()) as client:
            complete_vcpus(client, job)
            stream.take_from(job, client, listener, landing, own, offer.certificate)
            _wait_for_state(client, job, offer, wish)
            if landing.disks:
                place = stream.place_of(job, stream.DISKS)
                export_disks(client, place, landing.disks, deadline_s=job.deadline.left())
    job.bind(**{LANDING: hv.encode(landing)})
    return landing


def _wait_for_state(client: QmpClient, job: hv.Job, offer: hv.Offer, wish: hv.LandingWish) -> None:
    left_s = job.deadline.left
    caps = offer.tuning.caps if wish.tuning.caps is None else wish.tuning.caps
    try:
        capabilities.set_for(
            client, hv.Tuning(caps=caps), wish.mode, mirror=wish.storage == MIRROR, deadline_s=left_s()
        )
        migration_commands.migrate_incoming(client, stream.uri_of(job, MAIN), deadline_s=left_s())
    except QmpCommandError as error:
        what = f"{job.name}: QEMU cannot wait for the guest: {error.desc}"
        raise hv.OperationError(f"{what}; check migration_caps of the guest") from error
