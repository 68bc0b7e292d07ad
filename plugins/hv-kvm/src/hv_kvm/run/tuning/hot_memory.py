"""The memory of a running guest: a virtio-mem device gives it more, and takes that back."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.saved import saved_device, with_values
from hv_kvm.qmp import reach, size_commands
from hv_kvm.run.startup.room import more_memory_problems
from hv_kvm.run.tuning.balloon import wait_for_size
from hv_kvm.run.tuning.saved_first import saved_first

__all__ = ["resize_memory"]

_MIB: Final = 1 << 20
_DEVICE: Final = "hot-memory"
_STEP_MIB: Final = 2  # QEMU's default for x86: the size of a transparent huge page


def resize_memory(live: hv.Live, job: hv.Job, memory_mib: int) -> hv.Reached:
    """Ask the guest to use that much memory, and return what it has at the deadline, or earlier when it has obeyed."""
    spec = live.record.spec
    base_mib, device = int(spec["memory_mib"]), saved_device(spec, "HotMemory")
    if device is None:
        if memory_mib == base_mib:
            return hv.Reached(before=base_mib, after=base_mib)
        what = f"cannot become {memory_mib} MiB, it was started without memory_max"
        raise hv.OperationError(f"{job.name}: memory: {what}; set memory_max, then stop and start the instance")
    _refuse(job.name, memory_mib, base_mib, base_mib + int(device["most_mib"]))
    more_mib = memory_mib - base_mib
    if more_mib > int(device["asked_mib"]):
        balloon = saved_device(spec, "Balloon") or {}
        wanted_mib = (balloon.get("size_mib") or base_mib) + more_mib
        problems = tuple(more_memory_problems(live.record, wanted_mib, "memory", job.held.site))
        if problems:
            raise hv.VerifyError(job.name, problems)
    with reach(live.dir, job.deadline.left()) as client:
        before = size_commands.query_size_of(client, _DEVICE, deadline_s=job.deadline.left())
        with saved_first(job, with_values(spec, "HotMemory", asked_mib=more_mib)):
            size = more_mib * _MIB
            size_commands.set_property(client, _DEVICE, "requested-size", size, deadline_s=job.deadline.left())
        job.progress(f"waiting up to {job.deadline.left():.0f} s for the guest to reach {memory_mib} MiB")
        after = wait_for_size(
            client,
            "MEMORY_DEVICE_SIZE_CHANGE",
            lambda deadline_s: size_commands.query_size_of(client, _DEVICE, deadline_s=deadline_s),
            more_mib * _MIB,
            job,
        )
    return hv.Reached(before=base_mib + before // _MIB, after=base_mib + after // _MIB)


def _refuse(name: str, memory_mib: int, least_mib: int, most_mib: int) -> None:
    if memory_mib < least_mib:
        todo = "give more, or use 'hv balloon'"
        what = f"at least {least_mib} MiB, the memory of its start"
    elif memory_mib > most_mib:
        todo = "give less, or set memory_max, then stop and start the instance"
        what = f"at most {most_mib} MiB, the maximum of its start"
    elif (memory_mib - least_mib) % _STEP_MIB:
        todo = f"give {memory_mib + 1} or {memory_mib - 1}"
        what = f"must be {least_mib} MiB and a multiple of {_STEP_MIB} MiB"
    else:
        return
    raise hv.InputError(f"{name}: memory: {what}, got {memory_mib}; {todo}")
