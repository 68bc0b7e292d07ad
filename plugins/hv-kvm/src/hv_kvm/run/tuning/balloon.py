"""The memory balloon of a running guest: its size, also after a reboot, and the statistics of the guest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from hv_kvm.devices.virtio import Balloon
from hv_kvm.machine.saved import saved_device, with_values
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpClient, QmpTimeoutError, reach, size_commands
from hv_kvm.run.startup.room import more_memory_problems
from hv_kvm.run.tuning.saved_first import saved_first
from hvcore.plugin import InputError, Job, Live, OperationError, Reached, VerifyError, hookimpl

__all__ = ["balloon", "on_ready", "wait_for_size"]

_MIB: Final = 1 << 20
# QEMU sends at most one event a second for a balloon, and none for a guest that takes a step back.
_AT_LEAST_EVERY_S: Final = 1.0


@hookimpl
def on_ready(spec: KvmSpec, client: QmpClient, job: Job) -> None:
    """Set the size of before a reboot, and let the guest report statistics. QEMU keeps both until the guest is ready."""
    for device in spec.of(Balloon):
        if device.stats_s:
            interval = {"deadline_s": job.deadline.left()}
            size_commands.set_property(client, "balloon", "guest-stats-polling-interval", device.stats_s, **interval)
        if device.size_mib is not None and device.size_mib < spec.memory_mib:
            size_commands.balloon(client, device.size_mib * _MIB, deadline_s=job.deadline.left())
            job.bind(balloon_mib=device.size_mib)


def balloon(live: Live, job: Job, memory_mib: int) -> Reached:
    """Let the guest use that much memory; the size that it has at the deadline, or earlier when it has obeyed."""
    # The balloon is in the memory of the start. What the guest has beyond that is added.
    spec, most = live.record.spec, live.record.instance.memory_mib
    more_mib, device = most - int(spec["memory_mib"]), saved_device(spec, "Balloon")
    if device is None:
        what = "has no balloon, it was started with memory_balloon = false"
        raise OperationError(f"{job.name}: {what}; set it to true, then stop and start the instance")
    if memory_mib > most:
        todo = "give less; 'hv memory' gives an instance more"
        raise InputError(f"{job.name}: balloon: at most its memory of {most} MiB, got {memory_mib}; {todo}")
    wanted_mib = memory_mib - more_mib
    if wanted_mib < 1:
        what = f"balloon: at least {more_mib + 1} MiB, because {more_mib} MiB were added while it ran"
        raise InputError(f"{job.name}: {what}, got {memory_mib}; take them back with 'hv memory' first")
    size_mib = wanted_mib if memory_mib < most else None
    if wanted_mib > (device.get("size_mib") or int(spec["memory_mib"])):
        problems = tuple(more_memory_problems(live.record, memory_mib, "balloon", job.held.site))
        if problems:
            raise VerifyError(job.name, problems)
    with reach(live.dir, job.deadline.left()) as client:
        before = size_commands.query_balloon(client, deadline_s=job.deadline.left())
        with saved_first(job, with_values(spec, "Balloon", size_mib=size_mib), balloon_mib=size_mib):
            size_commands.balloon(client, wanted_mib * _MIB, deadline_s=job.deadline.left())
        job.progress(f"waiting up to {job.deadline.left():.0f} s for the guest to reach {memory_mib} MiB")
        after = wait_for_size(
            client,
            "BALLOON_CHANGE",
            lambda deadline_s: size_commands.query_balloon(client, deadline_s=deadline_s),
            wanted_mib * _MIB,
            job,
        )
    return Reached(before=before // _MIB + more_mib, after=after // _MIB + more_mib)


def wait_for_size(client: QmpClient, event: str, size_of: Callable[[float], int], wanted: int, job: Job) -> int:
    """Wait until the size is the wanted one, and return the last size: after each event, and at least every second.

    ``size_of`` gets the seconds that QEMU has to answer.
    """
    while (size := size_of(job.deadline.left(at_least=_AT_LEAST_EVERY_S))) != wanted and job.deadline.left() > 0.0:
        with suppress(QmpTimeoutError):
            client.wait_event(event, deadline_s=job.deadline.left(at_most=_AT_LEAST_EVERY_S))
    return size
