"""An addition to QEMU's command line: an asset tag that the guest can read in its SMBIOS tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import hvcore
from hv_kvm.machine.option import Opt
from hv_kvm.machine.spec import Device, KvmSpec

__all__ = ["AssetTag", "devices", "params", "plan", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetTag(Device):
    """What the guest sees. It is part of the spec, and so of the record."""

    tag: str


@hvcore.hookimpl
def params() -> hvcore.ParamGroup:
    """One parameter of driver kvm."""
    tag = hvcore.Param("asset_tag", hvcore.text(max_bytes=64), help="The asset tag in the guest's SMBIOS tables.")
    return hvcore.ParamGroup("asset", tag)


@hvcore.hookimpl
def devices() -> tuple[type[Device], ...]:
    """What it plans."""
    return (AssetTag,)


@hvcore.hookimpl
def plan(params: hvcore.Params) -> Iterator[Device]:
    """Decide the device once, from values alone."""
    if params["asset_tag"] is not None:
        yield AssetTag(tag=params["asset_tag"])


@hvcore.hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Say how QEMU is told. ``Opt`` escapes; ``params`` and ``why`` are what hv explain shows."""
    for device in spec.of(AssetTag):
        yield Opt(name="-smbios", props={"type": 3, "asset": device.tag}, params=("asset_tag",), why="the inventory")
