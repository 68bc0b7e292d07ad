"""Plugging one device into a running guest, and unplugging it: its options in their order, and undone from the last one on.

The options are those of the command line. Each has one command that adds it and one that removes it, and QEMU knows
what it has. So a change that was interrupted anywhere can be repeated or undone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import hvcore.plugin as hv
from hv_kvm.confinement import site_of
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import render_device
from hv_kvm.machine.resource import GUEST_USER, Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qemu.probe import facts_of
from hv_kvm.qmp import QmpClient, QmpError, plugging, reach
from hvcore.plugin import dataclass

__all__ = ["alter", "altered", "device_of", "level_in"]

_MONITOR_S: Final = 5.0
_MOST_FDS: Final = 64  # of one NIC: 32 queues, with vhost


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plug:
    """One device of a machine, with what is needed to plug or unplug it."""

    hooks: hv.Hooks
    job: hv.Job
    client: QmpClient
    spec: KvmSpec
    device: Device

    @property
    def keys(self) -> set[str]:
        """The keys of all resources of the device."""
        return {one.key for one in self.hooks.kinds.order(self.device.resources(self.spec))}

    def options(self, handles: hv.Handles) -> tuple[Opt, ...]:
        """The options of the device with these handles."""
        bound = self.job.record.bindings
        confined = level_in(self.job.record) is not hv.Level.OFF
        bindings = Bindings(handles=handles, accel=bound.get("accel", ""), confined=confined)
        return render_device(self.hooks, self.spec, facts_of(self.spec, self.job.host), bindings, self.device)

    @property
    def symbolic(self) -> tuple[Opt, ...]:
        """The same with symbols for descriptors: for the names of what QEMU has."""
        resources = [*self.spec.resources, *self.device.resources(self.spec)]
        return self.options(self.hooks.kinds.placeholders(resources, site_of(self.spec, self.job.host)))


def device_of(spec: KvmSpec, label: str) -> Device | None:
    """The device with that name."""
    return next((device for device in spec.devices if label and device.label == label), None)


def level_in(record: hv.Record) -> hv.Level:
    """The confinement of the running guest."""
    return hv.Level(record.bindings["confinement"])


def alter(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, label: str) -> None:
    """Make the guest have the device as in ``after``, and the node hold what that needs and no more."""
    old, new = device_of(before, label), device_of(after, label)
    with reach(job.dir, job.deadline.left()) as client:
        if new is not None:
            _plug(_Plug(hooks=hooks, job=job, client=client, spec=after, device=new), before)
        elif old is not None:
            _unplug(_Plug(hooks=hooks, job=job, client=client, spec=before, device=old), after)


def altered(hooks: hv.Hooks, job: hv.Job, before: KvmSpec, after: KvmSpec, label: str) -> bool:
    """Whether QEMU has all devices of the one that is to be there, or none of the one that is not."""
    old, new = device_of(before, label), device_of(after, label)
    spec, device = (after, new) if new is not None else (before, old)
    if device is None:
        return True
    with reach(job.dir, job.deadline.left(at_most=_MONITOR_S)) as client:
        plug = _Plug(hooks=hooks, job=job, client=client, spec=spec, device=device)
        there = plugging.devices(client)
        return all((name in there) is (new is not None) for name in _ids(plug.symbolic))


def _ids(options: tuple[Opt, ...]) -> list[str]:
    return [str(option.props["id"]) for option in options if option.name == "-device"]


def _plug(plug: _Plug, before: KvmSpec) -> None:
    job, client, level = plug.job, plug.client, level_in(plug.job.record)
    if plug.device.label + "-dev" in plugging.devices(client):
        return
    _hold_already(plug, before)
    resources = tuple(plug.device.resources(plug.spec))
    options = plug.options(job.acquire(*resources, level=level))
    job.progress(f"plugging {plug.device.label}")
    for option in options:
        plugging.add(client, option, plug.device.label, deadline_s=job.deadline.left())
    job.held.close_passed()
    job.prove(*resources, level=level)


def _hold_already(plug: _Plug, before: KvmSpec) -> None:
    """Tell the operation what the guest holds from its start: that is not acquired again."""
    bound, held = plug.job.record.bindings, plug.job.held
    uid = bound.get("uid")
    user = None if uid is None else hv.AsUser(uid, bound.get("gid"), tuple(bound.get("groups", ())))
    for resource in plug.hooks.kinds.order(before.resources):
        if resource.key == GUEST_USER.key:
            held[resource] = user
        elif resource not in held:
            held[resource] = None


def _unplug(plug: _Plug, after: KvmSpec) -> None:
    """Take the device from the guest, then its back ends from QEMU, then from the node what no other device needs."""
    job, client, label = plug.job, plug.client, plug.device.label
    options = plug.symbolic
    for device in reversed(_ids(options)):
        _let_go(plug, device)
    for option in reversed(options):
        if option.name != "-device":
            plugging.remove(client, option, deadline_s=job.deadline.left(at_least=_MONITOR_S))
    with suppress(QmpError):  # of a plug that was interrupted between getfd and netdev_add; seldom there
        plugging.close_sent(client, _given_names(label, options), deadline_s=_MONITOR_S)
    kept = {one.key for one in plug.hooks.kinds.order(after.resources)}
    gone = sorted(plug.keys - kept)
    if gone:
        job.release(*gone)


def _given_names(label: str, options: tuple[Opt, ...]) -> list[str]:
    return [f"{label}-fd{number}" for number in range(2)] if any(one.name == "-netdev" for one in options) else []


def _let_go(plug: _Plug, device: str) -> None:
    job, label = plug.job, plug.device.label
    job.progress(f"waiting up to {job.deadline.left():.0f} s for the guest to let {label} go")
    again = f"'hv detach {job.name} {label}' again"
    try:
        done = plugging.let_go(plug.client, device, deadline_s=job.deadline.left())
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
