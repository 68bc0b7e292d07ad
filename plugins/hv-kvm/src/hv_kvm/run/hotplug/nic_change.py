"""The cable of a NIC, and what its link on the node is connected to and limited by, while the guest runs.

A change gives back what differs, and acquires it as it is to be. So it can be repeated, and undone by the same steps with the
two sides exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hvcore.plugin as hv
from hv_kvm.confinement import site_of
from hv_kvm.devices.nic import GuestNic
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qmp import QmpClient, plugging
from hv_kvm.run.hotplug.guest_device import device_of, level_in
from hvcore.plugin import NodeLink

__all__ = ["change", "has", "modifiable", "modified", "on_ready", "pull_out"]


@hv.hookimpl
def on_ready(spec: KvmSpec, client: QmpClient, job: hv.Job) -> None:
    """Pull out the cables of NICs that are not connected: QEMU has no option for that."""
    for nic in spec.of(GuestNic):
        pull_out(client, nic, job)


def pull_out(client: QmpClient, nic: Device, job: hv.Job) -> None:
    """Pull out the cable of a new NIC, unless it is to be connected."""
    if isinstance(nic, GuestNic) and not nic.connected:
        plugging.set_link(client, f"{nic.label}-dev", up=False, deadline_s=job.deadline.left())


def modifiable(spec: KvmSpec, label: str) -> tuple[str, ...]:
    """The keys of the NIC that can change; none for another device."""
    nic = device_of(spec, label)
    return nic.modifiable if isinstance(nic, GuestNic) else ()


def modified(hooks: hv.Hooks, spec: KvmSpec, job: hv.Job, instance: hv.Instance, label: str) -> KvmSpec:
    """The machine with the NIC as the instance has it. Raises `VerifyError` for a bridge that is missing, and the like."""
    nics = spec.of(GuestNic)
    at = next(at for at, nic in enumerate(nics) if nic.label == label)
    new = nics[at].modified(instance.nics[at])
    after = replace(spec, devices=tuple(new if one is nics[at] else one for one in spec.devices))
    site = replace(site_of(after, job.host), level=level_in(job.record))
    problems = list(hooks.kinds.problems(_differing(spec, after, label)[1], site))
    if problems:
        place = f"nics[{new.index}]."  # the number of the device, which is not that of its row
        raise hv.VerifyError.refusal(job.name, [replace(one, path=one.path.removeprefix(place)) for one in problems])
    return after


def has(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, label: str) -> bool:
    """Whether the NIC is as in ``after``. QEMU does not say whether a cable is plugged in: the answer is no if that differs."""
    old, new = device_of(before, label), device_of(after, label)
    if not isinstance(old, GuestNic) or not isinstance(new, GuestNic) or old.connected is not new.connected:
        return False
    return _is_wired(hooks, job, before, after, label)


def _is_wired(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, label: str) -> bool:
    """Whether the node's side of the NIC is as in ``after``."""
    gone, wanted = _differing(before, after, label)
    known = {entry.key for entry in job.record.ledger}
    left = {one.key for one in gone} - {one.key for one in wanted}
    missing = {one.key for one in wanted if isinstance(one, hv.Bandwidth | hv.OvsPort)} - known
    if left & known or missing:
        return False
    try:
        hooks.kinds.prove(wanted, replace(site_of(after, job.host), level=level_in(job.record)), job)
    except hv.OperationError:
        return False
    return True


def change(hooks: hv.Hooks, job: hv.Job, client: QmpClient, before: KvmSpec, after: KvmSpec, label: str) -> None:
    """Bring the NIC from ``before`` to ``after``: first its link on the node, then its cable."""
    _rewire(hooks, job, before, after, label)
    old, new = device_of(before, label), device_of(after, label)
    if isinstance(old, GuestNic) and isinstance(new, GuestNic) and old.connected is not new.connected:
        plugging.set_link(client, f"{label}-dev", up=new.connected, deadline_s=job.deadline.left())


def _rewire(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, label: str) -> None:
    gone, wanted = _differing(before, after, label)
    if _is_wired(hooks, job, before, after, label):
        return
    level = level_in(job.record)
    keys = {one.key for one in (*gone, *wanted)}
    entries = {entry.key: entry for entry in job.record.ledger}
    job.release(*sorted(keys))
    for resource in hooks.kinds.order(_of(after, label)):
        if resource.key in keys:
            continue
        entry = entries.get(resource.key)
        name = None if entry is None else entry.data.get("name")
        job.held[resource] = NodeLink(name=name) if isinstance(name, str) else None
    job.acquire(*wanted, level=level)
    job.prove(*wanted, level=level)


def _differing(
    before: KvmSpec, after: KvmSpec, label: str
) -> tuple[tuple[hv.Resource[Any], ...], tuple[hv.Resource[Any], ...]]:
    """The resources of the NIC on either side that the other side does not have so. Its link is the same on both."""
    old, new = ({one.key: one for one in _of(spec, label)} for spec in (before, after))
    same = {key for key, one in old.items() if new.get(key) == one or (key in new and _is_link(one))}
    return (
        tuple(one for key, one in old.items() if key not in same),
        tuple(one for key, one in new.items() if key not in same),
    )


def _of(spec: KvmSpec, label: str) -> Iterator[hv.Resource[Any]]:
    device = device_of(spec, label)
    listed = () if device is None else tuple(device.resources(spec))
    yield from listed
    for one in listed:  # a switch is needed only
        yield from (needed for needed in one.needs() if needed not in listed and isinstance(needed, hv.OvsBridge))


def _is_link(resource: hv.Resource[Any]) -> bool:
    return isinstance(resource, hv.Tap | hv.Macvtap)
