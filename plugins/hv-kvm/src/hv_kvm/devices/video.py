"""The graphics card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.params import lacking
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.placement import display_address
from hv_kvm.machine.spec import Device, KvmSpec, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Video", "plan", "render", "verify"]

_MODELS: Final = {
    "std": "VGA",
    "cirrus": "cirrus-vga",
    "qxl": "qxl-vga",
    "virtio": "virtio-vga",
    "vmware": "vmware-svga",
}

PARAMS: Final = hv.ParamGroup(
    "video",
    hv.Param(
        "vga",
        hv.one_of(
            {
                "std": "Standard VGA with VBE. Works in every guest.",
                "cirrus": "Cirrus Logic GD5446, for very old guests.",
                "qxl": "QXL, which is made for SPICE.",
                "virtio": "virtio-gpu with VGA. Fast in guests that have its driver.",
                "vmware": "VMware SVGA II.",
                "none": "No graphics card.",
            }
        ),
        help="The model of the guest's graphics card.",
        default_means="qxl with SPICE, std with VNC, none without a display",
        example="virtio",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video(Device):
    """The graphics card, in the slot where QEMU itself would put it."""

    model: str


DEVICES: Final = (Video,)


@hv.hookimpl
@hv.when_given("vga", "vnc_bind_address", "spice_bind")
def plan(params: hv.Params) -> Iterator[Device]:
    """The card of parameter vga, or the card that suits the display."""
    shown = "std" if params["vnc_bind_address"] is not None else "none"
    wanted = params["vga"] or ("qxl" if params.get("spice_bind") else shown)
    if wanted != "none":
        yield Video(model=_MODELS[wanted])


@hv.hookimpl
@when_planned(Video)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have the card; some cards are in separate packages."""
    for video in spec.of(Video):
        yield from lacking(facts, video.model, "params.vga", "use another, or install the package of QEMU that has it")


@hv.hookimpl
@when_planned(Video)
def render(spec: KvmSpec) -> Iterator[Opt]:
    """The device."""
    for video in spec.of(Video):
        props: Props = {"id": "vga", **display_address(spec)}
        yield Opt(name="-device", head=video.model, props=props, params=("vga",))
