"""The driver's methods for devices that come and go while the guest runs."""

from __future__ import annotations

from abc import ABC, abstractmethod

import hvcore.plugin as hv
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.run.hotplug import changed_machine, media_change, nic_change, plug, resize_disk

__all__ = ["AttachesDevices"]


class AttachesDevices(ABC):
    """The methods of `hvcore.plugin.Attaches`, ``ChangesMedia``, ``Modifies`` and ``ResizesDisks``."""

    _hooks: hv.Hooks

    @abstractmethod
    def read_spec(self, data: object) -> KvmSpec:
        """The machine in a record."""

    def devices(self, spec: KvmSpec) -> dict[str, str]:
        """The disks and NICs, and the drives whose medium can be changed."""
        return changed_machine.fields_of(spec)

    def attached(self, job: hv.Job, instance: hv.Instance, params: hv.Params, field: str) -> tuple[KvmSpec, str]:
        """The machine with one more device, in a place that neither the machine nor QEMU uses."""
        return changed_machine.attached(self._hooks, self.read_spec(job.record.spec), job, instance, params, field)

    def detached(self, job: hv.Job, device: str) -> KvmSpec:
        """The machine without the device."""
        return changed_machine.detached(self.read_spec(job.record.spec), job.name, device)

    def with_medium(self, job: hv.Job, device: str, path: str | None) -> KvmSpec:
        """The machine with that image in the drive."""
        return media_change.with_medium(self._hooks, self.read_spec(job.record.spec), job, device, path)

    def listed(self, spec: KvmSpec) -> tuple[str, ...]:
        """USB devices, if the machine has their controller."""
        return changed_machine.listed(spec)

    def modifiable(self, spec: KvmSpec, device: str) -> tuple[str, ...]:
        """Keys of NICs: the cable; the port at a bridge and the limits of a tap."""
        return nic_change.modifiable(spec, device)

    def modified(self, job: hv.Job, instance: hv.Instance, device: str) -> KvmSpec:
        """The machine with the NIC as the instance has it."""
        return nic_change.modified(self._hooks, self.read_spec(job.record.spec), job, instance, device)

    def disk_size(self, job: hv.Job, device: str) -> int:
        """What QEMU reports."""
        return resize_disk.disk_size(self.read_spec(job.record.spec), job, device)

    def resize_disk(self, job: hv.Job, device: str, size_bytes: int) -> None:
        """QEMU grows the image and tells the guest."""
        resize_disk.resize_disk(self.read_spec(job.record.spec), job, device, size_bytes)

    def alter(self, job: hv.Job, *, before: KvmSpec, after: KvmSpec, device: str) -> None:
        """Plug or unplug the device, or change its medium."""
        plug.alter(self._hooks, job, before, after, device)

    def altered(self, job: hv.Job, *, before: KvmSpec, after: KvmSpec, device: str) -> bool:
        """What QEMU reports."""
        return plug.altered(self._hooks, job, before, after, device)
