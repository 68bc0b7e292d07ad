"""One device of a machine by its options and resources, with the operation that plugs it in or takes it out."""

from __future__ import annotations

import hvcore.plugin as hv
from hv_kvm.confinement import site_of
from hv_kvm.machine.option import Opt
from hv_kvm.machine.render import render_device
from hv_kvm.machine.resource import GUEST_USER, Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hv_kvm.qemu.probe import facts_of
from hv_kvm.qmp import QmpClient, reach
from hvcore.plugin import dataclass

__all__ = ["GuestDevice", "device_of", "level_in", "monitor_of"]


def device_of(spec: KvmSpec, label: str) -> Device | None:
    """The device with that name."""
    return next((device for device in spec.devices if label and device.label == label), None)


def level_in(record: hv.Record) -> hv.Level:
    """The confinement of the running guest."""
    return hv.Level(record.bindings["confinement"])


def monitor_of(job: hv.Job) -> QmpClient:
    """The one session of the operation with the guest's QEMU, until the operation ends."""
    return job.held.once(QmpClient, lambda: reach(job.dir, job.deadline.left()))


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDevice:
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

    def hold_already(self, before: KvmSpec) -> None:
        """Tell the operation what the guest holds from its start: that is not acquired again."""
        bound, held = self.job.record.bindings, self.job.held
        uid = bound.get("uid")
        user = None if uid is None else hv.AsUser(uid, bound.get("gid"), tuple(bound.get("groups", ())))
        for resource in self.hooks.kinds.order(before.resources):
            if resource.key == GUEST_USER.key:
                held[resource] = user
            elif resource not in held:
                held[resource] = None
