"""The SCSI controller, when a disk or a cdrom is behind one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.buses import SCSI_TARGETS, needs_scsi
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice

__all__ = ["DEVICES", "PARAMS", "ScsiController", "plan", "render", "verify"]

# "lsi" is an alias in QEMU, which introspection does not show.
_MODELS: Final = {name: {"lsi": "lsi53c895a"}.get(name, name) for name in SCSI_TARGETS}

PARAMS: Final = hv.ParamGroup(
    "scsi",
    hv.Param(
        "scsi_controller_type",
        hv.one_of(*_MODELS),
        default="lsi",
        help="The controller of SCSI disks and cdroms; it is there when there is one of them.",
        example="virtio-scsi-pci",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiController(PciDevice):
    """The one controller, with bus ``scsi.0``."""

    model: str
    iothread: str | None

    on_board: ClassVar[bool] = True


DEVICES: Final = (ScsiController,)


@hv.hookimpl
def plan(instance: hv.Instance, params: hv.Params) -> Iterator[Device]:
    """One, if anything needs it."""
    if needs_scsi(instance, params):
        model = _MODELS[params["scsi_controller_type"]]
        threaded = params["iothreads"] and model == "virtio-scsi-pci"
        yield ScsiController(model=model, iothread="iothread0" if threaded else None)


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The device must exist in this QEMU."""
    for controller in spec.of(ScsiController):
        if not facts.has_type(controller.model):
            what = facts.lacks(controller.model)
            yield hv.Problem(path="params.scsi_controller_type", what=what, todo="use another")


@hv.hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """The device."""
    for controller in spec.of(ScsiController):
        props: Props = {"id": "scsi", **controller.address(spec), "iothread": controller.iothread}
        yield Opt(name="-device", head=controller.model, props=props, params=("scsi_controller_type", "iothreads"))
