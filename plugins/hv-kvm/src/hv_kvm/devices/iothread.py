"""Threads of QEMU that do the input and output of virtio disks beside its main loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.buses import disk_bus, needs_scsi
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec, when_planned

__all__ = ["DEVICES", "PARAMS", "IoThreads", "assess", "check", "plan", "render"]

PARAMS: Final = hv.ParamGroup(
    "iothread",
    hv.Param(
        "iothreads",
        hv.integer(minimum=0, maximum=64),
        default=0,
        unit="threads",
        help="How many threads serve the disks, which take turns; 0 leaves it to QEMU's main loop.",
        example=2,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IoThreads(Device):
    """Threads ``iothread0`` to the last."""

    count: int


DEVICES: Final = (IoThreads,)


@hv.hookimpl
@hv.when_given("iothreads")
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Only virtio devices can be served by one."""
    if not params["iothreads"]:
        return
    scsi = needs_scsi(instance, params) and params["scsi_controller_type"] == "virtio-scsi-pci"
    if disk_bus(params) != "virtio" and not scsi:
        todo = 'set disk_type = "paravirtual" or scsi_controller_type = "virtio-scsi-pci", or leave it 0'
        what = "is of no use without virtio disks"
        yield hv.Problem(path="params.iothreads", what=what, got=str(params["iothreads"]), todo=todo)


@hv.hookimpl
def assess(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """A thread without a disk only costs memory."""
    if params["iothreads"] > len(instance.disks):
        what = f"is more than the {len(instance.disks)} disks there are"
        yield hv.Problem(path="params.iothreads", what=what, got=str(params["iothreads"]), todo="lower it")


@hv.hookimpl
@hv.when_given("iothreads")
def plan(params: hv.Params) -> Iterator[Device]:
    """The threads, if any."""
    if params["iothreads"]:
        yield IoThreads(count=params["iothreads"])


@hv.hookimpl
@when_planned(IoThreads)
def render(spec: KvmSpec) -> Iterator[Opt]:
    """One object for each."""
    for threads in spec.of(IoThreads):
        for index in range(threads.count):
            yield Opt(name="-object", head="iothread", props={"id": f"iothread{index}"}, params=("iothreads",))
