"""Plugging one device into a running guest, and unplugging it: its options in their order, and undone from the last one on.

The options are those of the command line. Each has one command that adds it and one that removes it, and QEMU knows
what it has. So a change that was interrupted anywhere can be repeated or undone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.nic import GuestNic
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpError, plugging, reach
from hv_kvm.run.hotplug import media_change, nic_change
from hv_kvm.run.hotplug.guest_device import GuestDevice, device_of, level_in, monitor_of

__all__ = ["alter", "altered"]

_MONITOR_S: Final = 5.0


def alter(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, label: str) -> None:
    """Make the guest have the device as in ``after``, and the node hold what that needs and no more."""
    old, new = device_of(before, label), device_of(after, label)
    client = monitor_of(job)
    if isinstance(old, GuestNic) and new is not None:
        job.progress(f"changing {label}")
        nic_change.change(hooks, job, client, before, after, label)
    elif old is not None and new is not None:
        job.progress(f"changing the medium in {label}")
        media_change.swap(hooks, job, client, before, after, label)
    elif new is not None:
        _plug(GuestDevice(hooks=hooks, job=job, client=client, spec=after, device=new), before)
    elif old is not None:
        _unplug(GuestDevice(hooks=hooks, job=job, client=client, spec=before, device=old), after)


def altered(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, label: str) -> bool:
    """Whether QEMU has all devices of the one that is to be there, or none of the one that is not."""
    old, new = device_of(before, label), device_of(after, label)
    spec, device = (after, new) if new is not None else (before, old)
    if device is None:
        return True
    if isinstance(old, GuestNic) and new is not None:
        return nic_change.has(hooks, job, before, after, label)
    if old is not None and new is not None:
        with reach(job.dir, job.deadline.left(at_most=_MONITOR_S)) as client:
            return media_change.has(client, job, after, label)
    with reach(job.dir, job.deadline.left(at_most=_MONITOR_S)) as client:
        plug = GuestDevice(hooks=hooks, job=job, client=client, spec=spec, device=device)
        there = plugging.devices(client)
        return all((name in there) is (new is not None) for name in _ids(plug.symbolic))


def _ids(options: tuple[Opt, ...]) -> list[str]:
    return [str(option.props["id"]) for option in options if option.name == "-device"]


def _plug(plug: GuestDevice, before: KvmSpec) -> None:
    job, client, level = plug.job, plug.client, level_in(plug.job.record)
    if plug.device.label + "-dev" in plugging.devices(client):
        nic_change.pull_out(client, plug.device, job)  # an interrupted plug may not have come so far
        return
    kept = {one.key for one in plug.hooks.kinds.order(before.resources)}
    if (plug.keys - kept) & {entry.key for entry in job.record.ledger}:
        # What an interrupted change has left without the device: the guest may let it go while that is settled.
        _give_back(plug, before)
    plug.hold_already(before)
    resources = tuple(plug.device.resources(plug.spec))
    options = plug.options(job.acquire(*resources, level=level))
    job.progress(f"plugging {plug.device.label}")
    for option in options:
        plugging.add(client, option, plug.device.label, deadline_s=job.deadline.left())
    nic_change.pull_out(client, plug.device, job)
    job.held.close_passed()
    job.prove(*resources, level=level)


def _unplug(plug: GuestDevice, after: KvmSpec) -> None:
    """Take the device from the guest, then what was under it."""
    for device in reversed(_ids(plug.symbolic)):
        _let_go(plug, device)
    _give_back(plug, after)


def _give_back(plug: GuestDevice, after: KvmSpec) -> None:
    """Take the back ends of the device from QEMU, then from the node what no device of ``after`` needs."""
    job, client, label = plug.job, plug.client, plug.device.label
    options = plug.symbolic
    for option in reversed(options):
        if option.name != "-device":
            plugging.remove(client, option, f"{label}-dev", deadline_s=job.deadline.left(at_least=_MONITOR_S))
    sets = {option.props["set"] for option in options if option.name == "-add-fd"}
    if sets & plugging.fdsets(client):  # QEMU before 9.1, while the guest does not run
        job.remarks.append(f"QEMU keeps the file of {label} open until the guest runs, so nothing else can use it yet")
    with suppress(QmpError):  # of a plug that was interrupted between getfd and netdev_add; seldom there
        plugging.close_sent(client, _given_names(label, options), deadline_s=_MONITOR_S)
    kept = {one.key for one in plug.hooks.kinds.order(after.resources)}
    gone = sorted(plug.keys - kept)
    if gone:
        job.release(*gone)


def _given_names(label: str, options: tuple[Opt, ...]) -> list[str]:
    """The names that `plugging.add` gives the descriptors of a NIC: two for each queue at most."""
    return [f"{label}-fd{number}" for option in options for number in range(plugging.descriptors_by_name(option))]


def _let_go(plug: GuestDevice, device: str) -> None:
    job, label = plug.job, plug.device.label
    job.progress(f"waiting up to {job.deadline.left():.0f} s for the guest to let {label} go")
    again = f"'hv detach {job.name} {label}' again"
    try:
        done = plugging.let_go(plug.client, device, left_s=job.deadline.left)
    except plugging.UnplugRefusedError as error:
        what = f"{job.name}: the guest refuses to let {label} go, and still has it"
        raise hv.OperationError(f"{what}; stop using it in the guest, then {again}") from error
    if not done:
        raise hv.DeadlineError(
            subject=job.name,
            waiting_for=f"answer of the guest to the removal of {label}",
            waited_s=job.deadline.seconds,
            todo=f"the guest still has it, and may let it go later, at the latest when it resets; then use {again}",
        )
