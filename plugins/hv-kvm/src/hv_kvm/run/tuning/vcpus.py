"""The number of processors of a running guest: hot-plug and unplug of vCPUs, in the order in which a start has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.event import QmpEvent
from hv_kvm.machine.cpu_places import CpuPlaces, places
from hv_kvm.machine.saved import saved_device
from hv_kvm.qmp import QmpClient, QmpCommandError, QmpTimeoutError, reach, size_commands
from hv_kvm.qmp.size_commands import CpuPlace
from hv_kvm.run.tuning.pinning import place_threads, refuse_outside
from hv_kvm.run.tuning.saved_first import saved_first

__all__ = ["complete_vcpus", "resize_vcpus"]

_AT_LEAST_EVERY_S: Final = 1.0
_RELEASED: Final = "DEVICE_DELETED"
_REFUSED: Final = frozenset({"DEVICE_UNPLUG_GUEST_ERROR", "ACPI_DEVICE_OST"})
_DONE: Final = frozenset({0, 0x84, 0x85})  # ACPI 6.5, 6.3.5: success, and two for an ejection in progress


def resize_vcpus(live: hv.Live, job: hv.Job, vcpus: int) -> hv.Reached:
    """Plug in the first free vCPUs, or ask the guest to release the last ones, and return the number at the end."""
    spec = live.record.spec
    cpu = saved_device(spec, "Cpu") or {}
    with reach(live.dir, job.deadline.left()) as client:
        before = _occupied(_places(client, job))
        most = max(cpu.get("most") or 0, before)
        if vcpus == before and spec["vcpus"] == vcpus:
            return hv.Reached(before=before, after=before)
        if vcpus > most:
            todo = "give less, or set vcpus_max, then stop and start the instance"
            raise hv.InputError(f"{job.name}: vcpus: at most {most}, the maximum of its start, got {vcpus}; {todo}")
        if vcpus > before:  # a new vCPU that could not be pinned would be there all the same
            refuse_outside(places(cpu, vcpus), job)
        with saved_first(job, {**spec, "vcpus": vcpus}):
            refused = _change(client, before, vcpus, job)
            after = _occupied(_places(client, job))
        if after != vcpus:
            job.update(spec={**spec, "vcpus": after})
        if isinstance(refused, QmpCommandError):
            if after == before:
                what = f"{before} cannot become {vcpus}, QEMU refused it: {refused.desc}"
                raise hv.OperationError(f"{job.name}: vcpus: {what}; stop and start the instance with {vcpus}")
            refused = f"QEMU refused the rest: {refused.desc}"
        _pin_new(client, cpu, after, job)
    return hv.Reached(before=before, after=after, note=refused)


def _places(client: QmpClient, job: hv.Job) -> Sequence[CpuPlace]:
    deadline_s = job.deadline.left(at_least=_AT_LEAST_EVERY_S)
    return size_commands.query_hotpluggable_cpus(client, deadline_s=deadline_s)


def _occupied(found: Sequence[CpuPlace]) -> int:
    return sum(place.path is not None for place in found)


def _change(client: QmpClient, before: int, wanted: int, job: hv.Job) -> QmpCommandError | str | None:
    """Change the number. Why QEMU or the guest refused, if one did."""
    try:
        if wanted <= before:
            return _unplug(client, wanted, job)
        _plug(client, wanted, job)
    except QmpCommandError as error:
        return error
    return None


def complete_vcpus(client: QmpClient, job: hv.Job) -> None:
    """Plug in the vCPUs that the machine has beyond those with which QEMU was started. Raises `QmpCommandError`."""
    spec = job.record.spec
    if _occupied(_places(client, job)) < spec["vcpus"]:
        _plug(client, spec["vcpus"], job)
        _pin_new(client, saved_device(spec, "Cpu") or {}, spec["vcpus"], job)


def _plug(client: QmpClient, wanted: int, job: hv.Job) -> None:
    found = _places(client, job)
    free = [(number, place) for number, place in enumerate(found) if place.path is None]
    for number, place in free[: wanted - _occupied(found)]:
        properties: Mapping[str, Any] = {"driver": place.model, "id": f"vcpu{number}", **place.position}
        size_commands.device_add(client, properties, deadline_s=job.deadline.left())


def _unplug(client: QmpClient, wanted: int, job: hv.Job) -> str | None:
    """Ask the guest for the last vCPUs and wait until it has released them. Why it did not, if it said so."""
    taken = [place.path for place in _places(client, job) if place.path is not None]
    for path in reversed(taken[wanted:]):
        size_commands.device_del(client, path, deadline_s=job.deadline.left())
    job.progress(f"waiting up to {job.deadline.left():.0f} s for the guest to release {len(taken) - wanted} vCPUs")
    while _occupied(_places(client, job)) > wanted:
        if job.deadline.left() == 0.0:
            return "the guest did not release them in time; it may still do so"
        try:
            event = client.wait_event(_concerns, deadline_s=job.deadline.left(at_most=_AT_LEAST_EVERY_S))
        except QmpTimeoutError:
            continue
        if event.name in _REFUSED:
            return "the guest refused to release them"
    return None


def _concerns(event: QmpEvent) -> bool:
    """Whether the event is about the end of an unplug: a vCPU is gone, or the guest refuses."""
    if event.name != "ACPI_DEVICE_OST":
        return event.name == _RELEASED or event.name in _REFUSED
    info = event.data.get("info")
    return isinstance(info, dict) and info.get("slot-type") == "CPU" and info.get("status") not in _DONE


def _pin_new(client: QmpClient, cpu: Mapping[str, Any], vcpus: int, job: hv.Job) -> None:
    """A new vCPU begins with the CPUs of the thread that made it: let it have those of vCPUs without a list."""
    wanted = places(cpu, vcpus)
    if wanted.pinned:
        inherited = CpuPlaces(vcpus=(wanted.emulator,) * vcpus, emulator=wanted.emulator, iothreads=wanted.iothreads)
        place_threads(client, wanted, job, free=inherited)
        job.bind(pins=str(wanted))
