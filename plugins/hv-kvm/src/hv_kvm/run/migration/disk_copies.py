"""The copies of a guest's disks to the target of its migration: kept equal until the guest stops here.

The target exports its own disks, each with the name of its block node. The source copies to them while the guest runs. Only
when all copies are complete it begins to send the guest, and ends them when the guest has stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.disk import Disk
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpClient, QmpCommandError, mirror_commands
from hvcore.plugin import dataclass

__all__ = [
    "Copies",
    "begin_copies",
    "copied_disks",
    "copies",
    "drop_copies",
    "end_copies",
    "export_disks",
    "tune_copies",
]

_ENDED: Final = "concluded"
_READY: Final = "ready"
_CHANGED: Final = "JOB_STATUS_CHANGE"


def copied_disks(spec: KvmSpec) -> tuple[str, ...]:
    """The block nodes of the disks that have to be copied where each node has its own."""
    return tuple(disk.id for disk in spec.of(Disk) if disk.source is None and not disk.read_only)


def export_disks(client: QmpClient, path: str, disks: Iterable[str], *, deadline_s: float) -> None:
    """On the target: let the source write to these disks, by the socket at that path."""
    mirror_commands.nbd_server_start(client, path, deadline_s=deadline_s)
    for disk in disks:
        mirror_commands.block_export_add(client, disk, deadline_s=deadline_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """How far the copies are. They are ``ready`` when all of them are complete and follow the guest's writes."""

    ready: bool
    done: int
    total: int
    error: str | None


def begin_copies(client: QmpClient, path: str, disks: Sequence[str], bandwidth_bps: int, job: hv.Job) -> None:
    """On the source: begin to copy these disks, which share the bandwidth; 0 is no limit. Those that were begun go on."""
    left_s, known = job.deadline.left, mirror_commands.query_jobs(client, deadline_s=job.deadline.left())
    for disk in disks:
        if _job(disk) not in known:
            mirror_commands.blockdev_del(client, _target(disk), deadline_s=left_s())
            mirror_commands.connect_export(client, _target(disk), path, disk, deadline_s=left_s())
            share_bps, nodes = _share(bandwidth_bps, disks), (disk, _target(disk))
            mirror_commands.blockdev_mirror(client, _job(disk), nodes, speed_bps=share_bps, deadline_s=left_s())


def tune_copies(client: QmpClient, disks: Sequence[str], bandwidth_bps: int, job: hv.Job) -> None:
    """Change how fast these disks are copied."""
    known = mirror_commands.query_jobs(client, deadline_s=job.deadline.left())
    for disk in disks:
        if _job(disk) in known and known[_job(disk)].status != _ENDED:
            share_bps = _share(bandwidth_bps, disks)
            mirror_commands.block_job_set_speed(client, _job(disk), share_bps, deadline_s=job.deadline.left())


def _share(bandwidth_bps: int, disks: Sequence[str]) -> int:
    return max(1, bandwidth_bps // len(disks)) if bandwidth_bps else 0


def copies(client: QmpClient, disks: Iterable[str], *, deadline_s: float) -> Copies:
    """How far the copies of these disks are. One that QEMU does not know has failed."""
    known, wanted = mirror_commands.query_jobs(client, deadline_s=deadline_s), tuple(disks)
    found = {disk: known.get(_job(disk)) for disk in wanted}
    errors = [_error(disk, one) for disk, one in found.items()]
    there = [one for one in found.values() if one is not None]
    return Copies(
        ready=len(there) == len(wanted) and all(one.status == _READY for one in there),
        done=sum(one.done for one in there),
        total=sum(one.total for one in there),
        error=next(filter(None, errors), None),
    )


def _error(disk: str, one: mirror_commands.BlockJob | None) -> str | None:
    if one is None:
        return f"{disk}: its copy has ended"
    if one.error:
        return f"{disk}: {one.error}"
    return f"{disk}: its copy has ended" if one.status == _ENDED else None


def end_copies(client: QmpClient, disks: Iterable[str], job: hv.Job) -> str | None:
    """The guest has stopped: end the copies, which are equal to the disks then. The error of one that is not.

    QEMU says only at the end of a copy whether the target was there all the time. An ended one stays known.
    """
    errors = []
    for disk in disks:
        known = mirror_commands.query_jobs(client, deadline_s=job.deadline.left()).get(_job(disk))
        if known is not None and known.status != _ENDED:
            mirror_commands.block_job_cancel(client, _job(disk), force=False, deadline_s=job.deadline.left())
        ended = _wait_ended(client, _job(disk), job)
        errors.append(f"{disk}: its copy is not known" if ended is None else ended.error and f"{disk}: {ended.error}")
    return next(filter(None, errors), None)


def _wait_ended(client: QmpClient, name: str, job: hv.Job) -> mirror_commands.BlockJob | None:
    while (found := mirror_commands.query_jobs(client, deadline_s=job.deadline.left()).get(name)) is not None:
        if found.status == _ENDED:
            break
        client.wait_event(_CHANGED, deadline_s=job.deadline.left())
    return found


def drop_copies(client: QmpClient, disks: Iterable[str], job: hv.Job) -> None:
    """End the copies, complete or not, and the connections to the target."""
    for disk in disks:
        if _job(disk) in mirror_commands.query_jobs(client, deadline_s=job.deadline.left()):
            with suppress(QmpCommandError):  # it has ended
                mirror_commands.block_job_cancel(client, _job(disk), force=True, deadline_s=job.deadline.left())
            if _wait_ended(client, _job(disk), job) is not None:
                mirror_commands.job_dismiss(client, _job(disk), deadline_s=job.deadline.left())
        mirror_commands.blockdev_del(client, _target(disk), deadline_s=job.deadline.left())


def _job(disk: str) -> str:
    return f"copy-{disk}"


def _target(disk: str) -> str:
    return f"target-{disk}"
