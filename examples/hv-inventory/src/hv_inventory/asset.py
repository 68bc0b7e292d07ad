"""An addition to QEMU's command line: an asset tag that the guest can read in its SMBIOS tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import hv_kvm.plugin as kvm
import hvcore.plugin as hv

__all__ = ["DEVICES", "AssetTag", "params", "plan", "render"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetTag(kvm.Device):
    """The part of the spec that the guest sees. hvcore keeps it in the record."""

    tag: str


@hv.hookimpl
def params() -> hv.ParamGroup:
    """One parameter of driver kvm."""
    tag = hv.Param("asset_tag", hv.text(max_bytes=64), help="The asset tag in the guest's SMBIOS tables.")
    return hv.ParamGroup("asset", tag)


DEVICES = (AssetTag,)


@hv.hookimpl
def plan(params: hv.Params) -> Iterator[kvm.Device]:
    """Decide the device once, from the parameters only."""
    if params["asset_tag"] is not None:
        yield AssetTag(tag=params["asset_tag"])


@hv.hookimpl
def render(spec: kvm.KvmSpec) -> Iterator[kvm.Opt]:
    """The options of QEMU. ``Opt`` escapes the values; hv explain shows ``params`` and ``why``."""
    for device in spec.of(AssetTag):
        yield kvm.Opt(
            name="-smbios", props={"type": 3, "asset": device.tag}, params=("asset_tag",), why="the inventory"
        )
