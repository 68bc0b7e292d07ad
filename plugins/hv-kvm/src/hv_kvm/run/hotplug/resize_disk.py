"""The size of a disk of a running guest."""

from __future__ import annotations

import hvcore.plugin as hv
from hv_kvm.devices.disk import Disk
from hv_kvm.machine.spec import KvmSpec
from hv_kvm.qmp import QmpCommandError, plugging, reach
from hv_kvm.run.hotplug.guest_device import device_of

__all__ = ["disk_size", "resize_disk"]


def disk_size(spec: KvmSpec, job: hv.Job, label: str) -> int:
    """The size in bytes that the guest sees now."""
    _refuse_others(spec, job, label)
    with reach(job.dir, job.deadline.left()) as client:
        return plugging.node_size(client, label, deadline_s=job.deadline.left())


def resize_disk(spec: KvmSpec, job: hv.Job, label: str, size_bytes: int) -> None:
    """Change the size of the image, and tell the guest. Raises `OperationError` with QEMU's reason."""
    _refuse_others(spec, job, label)
    arguments = {"node-name": label, "size": size_bytes}
    with reach(job.dir, job.deadline.left()) as client:
        try:
            client.execute("block_resize", arguments, deadline_s=job.deadline.left())
        except QmpCommandError as error:
            todo = "a block device has to be grown first, on the node"
            raise hv.OperationError(
                f"{job.name}: {label} cannot be resized, QEMU says: {error.desc}; {todo}"
            ) from error


def _refuse_others(spec: KvmSpec, job: hv.Job, label: str) -> None:
    device = device_of(spec, label)
    if not isinstance(device, Disk):
        raise hv.OperationError(f"{job.name}: {label} has no size; give a disk")
    if device.read_only:
        raise hv.OperationError(f"{job.name}: {label} is read-only, so its size stays")
