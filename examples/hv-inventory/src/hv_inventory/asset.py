"""An addition to QEMU's command line: an asset tag that the guest can read in its SMBIOS tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import hv_kvm.plugin as kvm
import hvcore.plugin as hv

__all__ = ["DEVICES", "AssetTag", "params", "plan", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetTag(kvm.Device):
    """What the guest sees. It is part of the spec, and so of the record."""

    tag: str


@hv.hookimpl
def params() -> hv.ParamGroup:
    """One parameter of driver kvm."""
    tag = hv.Param("asset_tag", hv.text(max_bytes=64), help="The asset tag in the guest's SMBIOS tables.")
    return hv.ParamGroup("asset", tag)


DEVICES = (AssetTag,)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[kvm.Device]:
    """Decide the device once, from values alone."""
    if params["asset_tag"] is not None:
        yield AssetTag(tag=params["asset_tag"])


@hv.hookimpl
def render(spec: kvm.KvmSpec) -> Iterator[kvm.Opt]:
    """Say how QEMU is told. ``Opt`` escapes; ``params`` and ``why`` are what hv explain shows."""
    for device in spec.of(AssetTag):
        yield kvm.Opt(
            name="-smbios", props={"type": 3, "asset": device.tag}, params=("asset_tag",), why="the inventory"
        )
