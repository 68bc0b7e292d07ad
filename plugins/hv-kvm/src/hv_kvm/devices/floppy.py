"""A floppy drive with an image in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import descriptors, file_props, read_only_image
from hv_kvm.devices.shared.buses import boots_first
from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Image
from hv_kvm.machine.spec import Device, KvmSpec, when_planned

__all__ = ["DEVICES", "PARAMS", "Floppy", "plan", "render", "verify"]

PARAMS: Final = hv.ParamGroup(
    "floppy",
    hv.Param(
        "floppy_image_path",
        hv.file(),
        help="An image to put into a floppy drive of the guest, write protected.",
        example="/srv/img/boot.fd",
    ),
)
_ID: Final = "floppy1"
_GIVEN_BY: Final = "params.floppy_image_path"


@dataclass(frozen=True, slots=True, kw_only=True)
class Floppy(Device):
    """The drive. Its image is only read, so any number of instances may use one."""

    path: str
    boot_index: int | None

    @property
    def image(self) -> Image:
        """The image, read-only and not claimed."""
        return Image(key=_ID, given_by=_GIVEN_BY, path=self.path, fdset=10, write=False, claim=False)

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """Its image."""
        yield self.image


DEVICES: Final = (Floppy,)


@hv.hookimpl
@hv.when_given("floppy_image_path")
def plan(params: hv.Params) -> Iterator[Device]:
    """A drive, when there is an image for it."""
    if params["floppy_image_path"]:
        yield Floppy(path=params["floppy_image_path"], boot_index=1 if boots_first(params, "floppy") else None)


@hv.hookimpl
@when_planned(Floppy)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """A QEMU can be built without it."""
    if spec.of(Floppy) and not (facts.has_type("floppy") and facts.has_type("isa-fdc")):
        what = f"this QEMU ({facts.version}) has no floppy drive"
        yield hv.Problem(path="params.floppy_image_path", what=what, todo="use a cdrom")


@hv.hookimpl
@when_planned(Floppy)
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Descriptor, block node, drive. The boot index is the controller's, which pc has and q35 has to be given."""
    keys = ("floppy_image_path", "boot_order")
    for floppy in spec.of(Floppy):
        opened = bindings[floppy.image]
        yield from descriptors(opened, floppy.path)
        yield read_only_image(_ID, file_props(opened), keys[:1])
        props: Props = {"id": f"{_ID}-dev", "drive": _ID}
        if spec.q35:
            controller: Props = {"id": "fdc", "bootindexA": floppy.boot_index}
            yield Opt(name="-device", head="isa-fdc", props=controller, params=keys)
            props["bus"] = "fdc.0"
        elif floppy.boot_index is not None:
            fixed: Props = {"driver": "isa-fdc", "property": "bootindexA", "value": floppy.boot_index}
            yield Opt(name="-global", props=fixed, params=keys, why="the controller is the machine's own")
        yield Opt(name="-device", head="floppy", props=props, params=keys[:1])
