"""The balloon: how a running guest gives memory back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice

__all__ = ["DEVICES", "PARAMS", "Balloon", "plan", "render", "verify"]

PARAMS: Final = hv.ParamGroup(
    "balloon",
    hv.Param(
        "memory_balloon",
        hv.boolean(),
        default=True,
        help="Whether the guest has a balloon device, through which its memory can be changed while it runs.",
        example=False,
    ),
)
_MODEL: Final = "virtio-balloon-pci"


@dataclass(frozen=True, slots=True, kw_only=True)
class Balloon(PciDevice):
    """The device."""

    on_board: ClassVar[bool] = True


DEVICES: Final = (Balloon,)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[Device]:
    """One, unless it is not wanted."""
    if params["memory_balloon"]:
        yield Balloon()


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The device must exist in this QEMU."""
    if spec.of(Balloon) and not facts.has_type(_MODEL):
        what = facts.lacks(_MODEL)
        yield hv.Problem(path="params.memory_balloon", what=what, got="True", todo="set it to false")


@hv.hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """The device."""
    for balloon in spec.of(Balloon):
        props = {"id": "balloon", **balloon.address(spec)}
        yield Opt(name="-device", head=_MODEL, props=props, params=("memory_balloon",))
