"""Threads of QEMU that do the input and output of virtio disks beside its main loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.devices.shared.buses import disk_bus, needs_scsi
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec, when_planned
from hvcore.plugin import Instance, Param, ParamGroup, Params, Problem, hookimpl, integer, when_given

__all__ = ["DEVICES", "PARAMS", "IoThreads", "assess", "check", "plan", "render"]

PARAMS: Final = ParamGroup(
    "iothread",
    Param(
        "iothreads",
        integer(minimum=0, maximum=64),
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


@hookimpl
@when_given("iothreads")
def check(instance: Instance, params: Params) -> Iterator[Problem]:
    """Only virtio devices can be served by one."""
    if not params["iothreads"]:
        return
    scsi = needs_scsi(instance, params) and params["scsi_controller_type"] == "virtio-scsi-pci"
    if disk_bus(params) != "virtio" and not scsi:
        todo = 'set disk_type = "paravirtual" or scsi_controller_type = "virtio-scsi-pci", or leave it 0'
        what = "is of no use without virtio disks"
        yield Problem(path="params.iothreads", what=what, got=str(params["iothreads"]), todo=todo)


@hookimpl
def assess(instance: Instance, params: Params) -> Iterator[Problem]:
    """A thread without a disk only costs memory."""
    if params["iothreads"] > len(instance.disks):
        what = f"is more than the {len(instance.disks)} disks there are"
        yield Problem(path="params.iothreads", what=what, got=str(params["iothreads"]), todo="lower it")


@hookimpl
@when_given("iothreads")
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """The threads, if any."""
    del instance
    if params["iothreads"]:
        yield IoThreads(count=params["iothreads"])


@hookimpl
@when_planned(IoThreads)
def render(spec: KvmSpec) -> Iterator[Opt]:
    """One object for each."""
    for threads in spec.of(IoThreads):
        for index in range(threads.count):
            yield Opt(name="-object", head="iothread", props={"id": f"iothread{index}"}, params=("iothreads",))
