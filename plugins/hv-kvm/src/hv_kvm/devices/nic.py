"""NICs: those of mode user need no interface of the node, all others a tap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field, replace
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.buses import boot_index_of
from hv_kvm.devices.shared.nic_scripts import NicScripts
from hv_kvm.devices.shared.params import lacking, problem
from hv_kvm.devices.shared.user_nic import UserBackend
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "GuestNic", "TapNic", "UserNic", "assess", "check", "plan", "render", "verify"]

_VIRTIO: Final = "virtio-net-pci"
_MODELS: Final = {
    "paravirtual": "virtio-net. Fast. The guest needs a virtio driver.",
    "e1000": "Intel 82540EM Gigabit Ethernet. Most guests have its driver.",
    "i82551": "Intel 82551 Fast Ethernet (EtherExpress Pro).",
    "i82557b": "Intel 82557B Fast Ethernet (EtherExpress Pro).",
    "i82559er": "Intel 82559ER Fast Ethernet (EtherExpress Pro).",
    "ne2k_pci": "NE2000 on PCI (Realtek RTL8029).",
    "pcnet": "AMD PCnet-PCI II.",
    "rtl8139": "Realtek RTL8139 Fast Ethernet.",
}
_NO_ISA: Final = "is an ISA card, which does not fit on a PCI bus"
_MAX_QUEUES: Final = 32
_COMMUNICATION: Final = "ganeti:communication:"

PARAMS: Final = hv.ParamGroup(
    "nic",
    hv.Param(
        "nic_type",
        hv.one_of(_MODELS, refused={"ne2k_isa": _NO_ISA}),
        default="paravirtual",
        help="The model of the guest's NICs.",
        example="e1000",
    ),
    hv.Param(
        "vhost_net",
        hv.boolean(),
        help="Whether the node's kernel (vhost-net) moves the packets of paravirtual NICs, which is faster than QEMU.",
        default_means="true if the node has vhost-net",
        changes="launch",
        example=True,
    ),
    hv.Param(
        "virtio_net_queues",
        hv.integer(minimum=1, maximum=_MAX_QUEUES),
        default=1,
        help="The number of queues of each paravirtual NIC. With one queue for each vCPU, all vCPUs can move packets at "
        "once. More than one needs vhost_net.",
        unit="queues",
        example=4,
    ),
    hv.Param(
        "vnet_hdr",
        hv.boolean(),
        default=True,
        help="Whether the guest may leave checksums and segmentation to the node (virtio-net header on the tap).",
        example=False,
    ),
    hv.Param(
        "ovs_socket",
        hv.file(),
        help="The socket of the database of Open vSwitch, for NICs in mode openvswitch.",
        default_means=hv.OVS_SOCKET,
        changes="launch",
        example="/var/run/openvswitch/db.sock",
    ),
    help="The guest's NICs, all of one model. A table under [[nics]] says where a NIC is connected.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestNic(PciDevice):
    """The guest's side of a NIC."""

    index: int
    model: str
    mac: str
    boot_index: int | None
    connected: bool = True

    @property
    def label(self) -> str:
        """The id of its back end; that of the device ends with ``-dev``."""
        return f"nic{self.index}"

    @property
    def modifiable(self) -> tuple[str, ...]:
        """The keys of the NIC that can change while the guest runs."""
        return ("connected",)

    def modified(self, nic: hv.Nic) -> GuestNic:
        """The same NIC with these keys as ``nic`` has them."""
        return replace(self, connected=nic.connected)

    def fixed(self, spec: KvmSpec) -> str | None:
        """A NIC can be plugged on a machine with PCI slots for it."""
        return self.without_hotplug(spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNic(GuestNic):
    """A NIC in mode user, on passt or on the network stack of QEMU."""

    backend: UserBackend = field(default=UserBackend())

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """Those of its back end."""
        yield from self.backend.resources(self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class TapNic(GuestNic):
    """A NIC on a tap of the node. With ``vhost`` None, vhost-net is used if the node has it.

    The fields from ``mode`` to ``ip`` are keys of the NIC. ``communication`` says that its name begins with
    ``ganeti:communication:``. An up script replaces what hvcore plugs the tap into.
    """

    mode: str
    link: str | None
    queues: int
    vhost: bool | None
    vnet_hdr: bool
    vlan: str | None = None
    mtu: int | None = None
    ip: tuple[str, ...] = ()
    communication: bool = False
    scripts: NicScripts = field(default=NicScripts())
    ovs_socket: str = hv.OVS_SOCKET
    to_guest: int | None = None
    from_guest: int | None = None

    @property
    def modifiable(self) -> tuple[str, ...]:
        """A port can be moved and limited. The name of a tap at Open vSwitch has its bridge in it, so that stays."""
        limits = ("bandwidth_to_guest", "bandwidth_from_guest")
        port = {"bridged": ("link", "vlan"), "openvswitch": ("vlan",)}.get(self.mode, ())
        return (*(port if self.scripts.up is None else ()), *limits, "connected")

    def modified(self, nic: hv.Nic) -> TapNic:
        """The same NIC with these keys as ``nic`` has them."""
        return replace(
            self,
            connected=nic.connected,
            link=nic.link,
            vlan=nic.vlan,
            to_guest=nic.bandwidth_to_guest,
            from_guest=nic.bandwidth_from_guest,
        )

    @property
    def switch(self) -> hv.OvsBridge | None:
        """The bridge of Open vSwitch, in mode openvswitch."""
        return hv.nic_switch(
            self.index, self.mode, to=self.link, socket=self.ovs_socket, vlan=self.vlan, from_guest=self.from_guest
        )

    @property
    def tap(self) -> hv.Tap | hv.Macvtap:
        """The link with all its queues."""
        if self.mode == "macvtap":
            return hv.Macvtap(
                key=f"nic{self.index}.tap",
                given_by=f"nics[{self.index}].link",
                mac=self.mac,
                lower=self.link or "",
                queues=self.queues,
                vhost=self.vhost,
                vnet_hdr=self.vnet_hdr,
                mtu=self.mtu,
            )
        return hv.Tap(
            key=f"nic{self.index}.tap",
            given_by=f"nics[{self.index}].mode",
            mac=self.mac,
            queues=self.queues,
            vhost=self.vhost,
            vnet_hdr=self.vnet_hdr,
            mtu=self.mtu,
            communication=self.communication,
            switch=self.switch,
        )

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The MAC address, the tap, and what the tap is plugged into."""
        where = f"nics[{self.index}]"
        yield hv.mac_claim(f"nic{self.index}.mac", f"{where}.mac", self.mac)
        yield self.tap
        if self.scripts.up is None:
            yield from hv.nic_connection(
                self.index,
                self.mode,
                self.tap,
                to=self.link,
                addresses=self.ip,
                vlan=self.vlan,
                mtu=self.mtu,
                to_guest=self.to_guest,
                from_guest=self.from_guest,
            )
        yield from self.scripts.resources(self.index, self.mode, self.link, self.tap)
        if self.switch is None or self.scripts.up is not None:  # else the limits are the switch's
            yield from hv.nic_limits(self.index, self.tap, self.mac, to_guest=self.to_guest, from_guest=self.from_guest)


DEVICES: Final = (UserNic, TapNic)


@hv.hookimpl
@hv.when_given("vhost_net", "virtio_net_queues", "ovs_socket")
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Several queues need virtio with vhost-net, and vhost-net a tap and virtio."""
    # A node or a profile may set it for all its instances.
    if params["vhost_net"] and params.layer("vhost_net") == "instance" and instance.nics:
        if params["nic_type"] != "paravirtual":
            what = f"needs paravirtual NICs, but nic_type is {params['nic_type']!r}"
            yield problem(params, "vhost_net", what, "unset it, or set nic_type = 'paravirtual'")
        elif all(nic.mode == "user" for nic in instance.nics):
            what = "needs a NIC on a tap of the node, and each has mode 'user'"
            yield problem(params, "vhost_net", what, "unset it, or use another mode")
    if params.layer("ovs_socket") == "instance" and all(nic.mode != "openvswitch" for nic in instance.nics):
        what = "has no effect without a NIC of mode 'openvswitch'"
        yield problem(params, "ovs_socket", what, "unset it, or use that mode")
    key = "virtio_net_queues"
    if params[key] == 1:
        return
    if params["nic_type"] != "paravirtual":
        what = f"needs paravirtual NICs, but nic_type is {params['nic_type']!r}"
        yield problem(params, key, what, "set it to 1, or nic_type = 'paravirtual'")
    if params["vhost_net"] is False:
        yield problem(params, key, "needs vhost_net, but vhost_net is false", "set vhost_net = true, or one queue")
    if any(nic.mode == "user" for nic in instance.nics):
        what = "does not work with a NIC of mode 'user', which has one queue"
        yield problem(params, key, what, "set it to 1, or use another mode")


@hv.hookimpl
def assess(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Values that make a NIC slow."""
    if not instance.nics:
        return
    if params["nic_type"] != "paravirtual":
        yield problem(params, "nic_type", "is an emulated card, far slower than a paravirtual one")
    if params["vhost_net"] is False and any(nic.mode != "user" for nic in instance.nics):
        yield problem(params, "vhost_net", "makes every packet pass through QEMU, which is slow", "leave it unset")


@hv.hookimpl
def plan(instance: hv.Instance, params: hv.Params) -> Iterator[Device]:
    """One device for each NIC of the instance."""
    for index, nic in enumerate(instance.nics):
        model = _VIRTIO if params["nic_type"] == "paravirtual" else params["nic_type"]
        mac, boot_index = instance.mac(index), boot_index_of(instance, params, "nics", index)
        if nic.mode == "user":
            backend = UserBackend(
                wanted=params["user_network"],
                chosen=params["user_network"] or "",
                passt=params["passt_path"] or hv.PASST_PATH,
                hostname=instance.name,
                forwards=nic.forward,
                mtu=nic.mtu,
                egress=nic.egress,
                mac=mac,
            )
            yield UserNic(
                index=index,
                model=model,
                mac=mac,
                boot_index=boot_index,
                connected=nic.connected,
                backend=backend,
            )
            continue
        yield TapNic(
            index=index,
            model=model,
            mac=mac,
            boot_index=boot_index,
            connected=nic.connected,
            mode=nic.mode,
            link=nic.link,
            queues=params["virtio_net_queues"],
            vhost=params["vhost_net"] if model == _VIRTIO else False,
            vnet_hdr=params["vnet_hdr"],
            vlan=nic.vlan,
            mtu=nic.mtu,
            ip=nic.ip,
            communication=(nic.name or "").startswith(_COMMUNICATION),
            scripts=NicScripts.of(instance, params, index),
            ovs_socket=params["ovs_socket"] or hv.OVS_SOCKET,
            to_guest=nic.bandwidth_to_guest,
            from_guest=nic.bandwidth_from_guest,
        )


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have the model: QEMU 10 starts without the NIC if it does not."""
    for model in sorted({nic.model for nic in spec.of(GuestNic)}):
        yield from lacking(facts, model, "params.nic_type", "use another")


@hv.hookimpl
def render(spec: KvmSpec, facts: Facts, bindings: Bindings) -> Iterator[Opt]:
    """Back end and device."""
    for nic in spec.of(GuestNic):
        name = f"nic{nic.index}"
        props: Props = {"id": f"{name}-dev", "netdev": name, "mac": nic.mac, **nic.address(spec)}
        props["bootindex"] = nic.boot_index
        keys = ["nic_type", "boot_order"]
        if isinstance(nic, UserNic):
            yield nic.backend.option(nic.index, facts, bindings)
        elif isinstance(nic, TapNic):
            yield _backend(name, nic, bindings[nic.tap])
            if nic.mtu is not None and nic.model == _VIRTIO:
                props["host_mtu"] = nic.mtu
            if nic.queues > 1:
                # Two vectors for each pair of queues, one for the control queue and one for configuration changes.
                props |= {"mq": True, "vectors": 2 * nic.queues + 2}
                keys.append("virtio_net_queues")
        yield Opt(name="-device", head=nic.model, props=props, params=tuple(keys))


def _backend(name: str, nic: TapNic, tap: hv.TapFds) -> Opt:
    several = len(tap.fds) > 1
    props: Props = {
        "id": name,
        "fds" if several else "fd": ":".join(tap.fds),
        "vhost": bool(tap.vhost_fds) or None,
        "vhostfds" if several else "vhostfd": ":".join(tap.vhost_fds) or None,
    }
    keys = ("vhost_net", "virtio_net_queues", "vnet_hdr")
    return Opt(name="-netdev", head="tap", props=props, params=keys, why=f"nics[].mode {nic.mode}")
