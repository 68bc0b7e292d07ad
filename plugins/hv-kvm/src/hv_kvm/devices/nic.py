"""Network interfaces. User-mode ones need nothing of the node; taps come with the network drivers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.facts import Facts
from hv_kvm.option import Opt, Props
from hv_kvm.spec import Device, KvmSpec, PciDevice
from hvcore import Instance, Param, ParamGroup, Params, Problem, hookimpl, one_of

__all__ = ["PARAMS", "UserNic", "check", "params", "plan", "render", "verify"]

_MODELS: Final = {
    "paravirtual": "virtio-net-pci",
    "e1000": "e1000",
    "i82551": "i82551",
    "i82557b": "i82557b",
    "i82559er": "i82559er",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet",
    "rtl8139": "rtl8139",
}

PARAMS: Final = ParamGroup(
    "nic",
    Param("nic_type", one_of(*_MODELS), default="paravirtual", help="The model of the guest's network interfaces."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNic(PciDevice):
    """An interface behind QEMU's own network stack: out to where the node can reach, nothing in."""

    index: int
    model: str
    mac: str
    boot_index: int | None

    def needs_host_network(self) -> bool:
        """QEMU itself speaks for the guest."""
        return True

    def shows(self) -> tuple[tuple[str, str], ...]:
        """QEMU's name server forwards to those of the node."""
        return (("resolv.conf", "/etc/resolv.conf"),)


@hookimpl
def params() -> ParamGroup:
    """The family's parameters."""
    return PARAMS


@hookimpl
def check(instance: Instance) -> Iterator[Problem]:
    """Only user-mode interfaces can be made so far."""
    for index, nic in enumerate(instance.nics):
        if nic.mode != "user":
            what = "needs a tap, which this release of hv-kvm does not make"
            yield Problem(path=f"nics[{index}].mode", what=what, got=repr(nic.mode), todo="use mode 'user'")
        elif nic.link is not None:
            yield Problem(
                path=f"nics[{index}].link", what="mode 'user' has no link", got=repr(nic.link), todo="unset it"
            )


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """One interface for each of the instance's."""
    boots = params["boot_order"] == "network"
    for index in range(len(instance.nics)):
        model = _MODELS[params["nic_type"]]
        boot_index = 1 if boots and index == 0 else None
        yield UserNic(index=index, model=model, mac=instance.mac(index), boot_index=boot_index)


@hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[Problem]:
    """QEMU 10 starts without the NIC when it does not know the model, so it is looked up first."""
    for nic in spec.of(UserNic):
        if nic.model not in facts.types:
            what = f"this QEMU ({facts.version}) has no {nic.model}"
            yield Problem(path="params.nic_type", what=what, todo="use another")


@hookimpl
def render(spec: KvmSpec) -> Iterator[Opt]:
    """Back end and device."""
    for nic in spec.of(UserNic):
        name = f"nic{nic.index}"
        yield Opt(name="-netdev", head="user", props={"id": name}, why="nics[].mode user")
        props: Props = {
            "id": f"{name}-dev",
            "netdev": name,
            "mac": nic.mac,
            **nic.address(spec),
            "bootindex": nic.boot_index,
        }
        yield Opt(name="-device", head=nic.model, props=props, params=("nic_type",))
