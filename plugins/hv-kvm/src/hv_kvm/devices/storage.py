"""What serves the disks: QEMU's I/O threads, and the SCSI controller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.buses import disk_bus, needs_scsi
from hv_kvm.devices.shared.params import lacking, problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "IoThreads", "ScsiController", "assess", "check", "plan", "render", "verify"]

_VIRTIO_SCSI: Final = "virtio-scsi-pci"

PARAMS: Final = hv.ParamGroup(
    "storage",
    hv.Param(
        "iothreads",
        hv.integer(minimum=0, maximum=64),
        default=0,
        unit="threads",
        help="How many threads of QEMU serve the virtio disks. Disk 0 gets thread 0, disk 1 thread 1, and so on in turn.",
        default_means="QEMU's main loop serves the disks",
        example=2,
    ),
    hv.Param(
        "scsi_controller_type",
        hv.one_of(
            {
                "lsi": "LSI 53C895A. Slow, for at most 7 disks.",
                "virtio-scsi-pci": "virtio-scsi. Fast, for at most 256 disks. The guest needs a virtio driver.",
                "megasas": "LSI MegaRAID SAS 1078, for at most 64 disks.",
                "dc390": "Tekram DC-390 (AMD PCscsi). Slow, for at most 7 disks.",
            }
        ),
        default="lsi",
        help="The model of the SCSI controller. The guest has a controller only if it has a SCSI disk or CD-ROM drive.",
        example="virtio-scsi-pci",
    ),
    help="The threads and the controller that serve the guest's disks.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IoThreads(Device):
    """I/O threads ``iothread0``, ``iothread1`` and so on, which serve virtio disks in place of QEMU's main loop."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiController(PciDevice):
    """The one controller, with bus ``scsi.0``."""

    model: str
    iothread: str | None

    on_board: ClassVar[bool] = True


DEVICES: Final = (IoThreads, ScsiController)


@hv.hookimpl
@hv.when_given("iothreads")
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Only virtio devices can use an I/O thread."""
    scsi = needs_scsi(instance, params) and params["scsi_controller_type"] == _VIRTIO_SCSI
    if params["iothreads"] and disk_bus(params) != "virtio" and not scsi:
        todo = 'set disk_type = "paravirtual" or scsi_controller_type = "virtio-scsi-pci", or set it to 0'
        yield problem(params, "iothreads", "has no effect without virtio disks", todo)


@hv.hookimpl
def assess(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """A thread without a disk only costs memory."""
    if params["iothreads"] > len(instance.disks):
        yield problem(params, "iothreads", f"is more than the number of disks, {len(instance.disks)}", "lower it")


@hv.hookimpl
def plan(instance: hv.Instance, params: hv.Params) -> Iterator[Device]:
    """The threads, and the controller if a disk or CD-ROM drive needs it."""
    if params["iothreads"]:
        yield IoThreads(count=params["iothreads"])
    if needs_scsi(instance, params):
        kind = params["scsi_controller_type"]
        model = "lsi53c895a" if kind == "lsi" else kind  # introspection does not show the alias lsi
        yield ScsiController(
            model=model, iothread="iothread0" if params["iothreads"] and kind == _VIRTIO_SCSI else None
        )


@hv.hookimpl
@when_planned(ScsiController)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The controller must exist in this QEMU."""
    for controller in spec.of(ScsiController):
        yield from lacking(facts, controller.model, "params.scsi_controller_type", "use another")


@hv.hookimpl
@when_planned(IoThreads, ScsiController)
def render(spec: KvmSpec) -> Iterator[Opt]:
    """One object for each thread; the controller."""
    for threads in spec.of(IoThreads):
        for index in range(threads.count):
            yield Opt(name="-object", head="iothread", props={"id": f"iothread{index}"}, params=("iothreads",))
    for controller in spec.of(ScsiController):
        props: Props = {"id": "scsi", **controller.address(spec), "iothread": controller.iothread}
        yield Opt(name="-device", head=controller.model, props=props, params=("scsi_controller_type", "iothreads"))
