"""A vsock device: the node and a guest talk to each other without a network, see vsock(7). QEMU: hw/virtio/vhost-vsock.c."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import hv_kvm.plugin as kvm
import hvcore.plugin as hv

MODEL: Final = "vhost-vsock-pci"
CIDS: Final = {"first": 3, "last": 2**32 - 2}  # addresses of guests; all others have a meaning (linux/vm_sockets.h)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vsock(kvm.PciDevice):
    """The part of the spec that the guest sees. ``cid`` None takes the first free address at each start."""

    cid: int | None
    on_board: ClassVar[bool] = True  # the slots of disks and NICs do not change when a guest gets one
    path: ClassVar[str] = "/dev/vhost-vsock"

    @property
    def device(self) -> hv.CharacterDevice:
        """The kernel's side of the device. A confined QEMU may not open it, so it gets a descriptor."""
        return hv.CharacterDevice(key="vsock0.device", given_by="params.vsock", path=self.path)

    @property
    def number(self) -> hv.UniqueValue:
        """The guest's address, which no other guest of the node may have."""
        return hv.UniqueValue(key="vsock0.cid", given_by="params.vsock_cid", space="vsock-cid", value=self.cid, **CIDS)

    def resources(self, spec: kvm.KvmSpec) -> tuple[hv.Resource[Any], ...]:
        """The resources that it needs. hvcore checks, shows, acquires and releases them, also after a crash."""
        return (self.device, self.number)


@hv.impl.params
def params() -> hv.ParamGroup:
    """Two parameters, under ``[params]`` beside the driver's own."""
    cids = hv.integer(minimum=CIDS["first"], maximum=CIDS["last"])
    vsock = hv.Param("vsock", hv.boolean(), default=False, help="Whether the guest has a vsock device.")
    cid = hv.Param("vsock_cid", cids, default_means="the first free one", help="The guest's address (CID).")
    return hv.ParamGroup("vsock", vsock, cid)


@hv.impl.check
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """An address without a device is a mistake."""
    if params["vsock_cid"] is not None and not params["vsock"]:
        yield hv.Problem(path="params.vsock_cid", what="is set without vsock", todo="set vsock = true")


@kvm.impl.devices
def devices() -> tuple[type[kvm.Device], ...]:
    """The devices that `plan` yields."""
    return (Vsock,)


@kvm.impl.plan
def plan(params: hv.Params) -> Iterator[kvm.Device]:
    """Decide the device once, from the parameters only."""
    if params["vsock"]:
        yield Vsock(cid=params["vsock_cid"])


@kvm.impl.verify
def verify(spec: kvm.KvmSpec, facts: kvm.Facts) -> Iterator[hv.Problem]:
    """The problems of this QEMU. The kinds of the resources report those of the node."""
    if spec.of(Vsock) and not facts.has_type(MODEL):
        yield hv.Problem(path="params.vsock", what=facts.lacks(MODEL))


@kvm.impl.render
def render(spec: kvm.KvmSpec, bindings: kvm.Bindings) -> Iterator[kvm.Opt]:
    """The option. ``bindings[resource]`` is the handle: a number, and a descriptor."""
    for it in spec.of(Vsock):
        props: kvm.Props = {"id": "vsock0", "guest-cid": bindings[it.number], "vhostfd": bindings[it.device]}
        yield kvm.Opt(name="-device", head=MODEL, props={**props, **it.address(spec)}, params=("vsock", "vsock_cid"))
