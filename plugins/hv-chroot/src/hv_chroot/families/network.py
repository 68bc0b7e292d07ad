"""The network of an instance: the node's, none, or its own interfaces at bridges of the node."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final

import hvcore.plugin as hv
from hvcore.plugin import dataclass

__all__ = ["PARAMS", "Interface", "addresses", "check", "interfaces_of"]

_PREFIX: Final = "eth"
_MODES: Final = ("bridged", "routed", "openvswitch", "ext")
_SCRIPTS: Final = ("network_up_script", "network_down_script")


def addresses() -> hv.ParamType:
    """The type of an address with its prefix length: ``10.0.0.5/24`` for the first interface, or ``eth1=10.0.0.5/24``."""
    expects = "an IPv4 or IPv6 address with its prefix length, such as '10.0.0.5/24' or 'eth1=fd00::5/64'"

    def parse(value: object) -> str:
        name, found, text = value.rpartition("=") if isinstance(value, str) else ("", "", "")
        name = name if found else f"{_PREFIX}0"
        if not name.startswith(_PREFIX) or not name.removeprefix(_PREFIX).isdecimal() or "/" not in text:
            raise hv.Reject(f"is not {expects}")
        try:
            return f"{name}={ipaddress.ip_interface(text)}"
        except ValueError:
            raise hv.Reject(f"is not {expects}") from None

    return hv.ParamType("address with prefix", expects, parse, {"type": "string", "minLength": 1, "maxLength": 80})


PARAMS: Final = hv.ParamGroup(
    "network",
    hv.Param(
        "network",
        hv.one_of(
            {
                "host": "The network of the node, as in Ganeti.",
                "none": "A loopback interface only.",
                "veth": "An interface for each NIC, connected as the NIC says.",
            }
        ),
        default="host",
        help="The network that the processes see.",
        example="veth",
    ),
    hv.Param(
        "network_addresses",
        hv.list_of(addresses()),
        default=(),
        help="More addresses of the interfaces, besides ip of the NICs. The interfaces are eth0, eth1 and so on, in NIC order.",
        example=["10.0.0.5/24", "eth1=fd00::5/64"],
    ),
    hv.Param(
        "network_gateways",
        hv.list_of(hv.address(), maximum=2),
        default=(),
        help="The default gateways: an IPv4 address, an IPv6 address, or one of each.",
        example=["10.0.0.1"],
    ),
    hv.Param(
        "network_mtu",
        hv.integer(minimum=68, maximum=65535),
        unit="bytes",
        default_means="the MTU of the bridge",
        help="The MTU of the interfaces whose NIC has no mtu.",
        example=1400,
    ),
    hv.Param(
        "ovs_socket",
        hv.file(),
        help="The socket of the database of Open vSwitch, for NICs in mode openvswitch.",
        default_means=hv.OVS_SOCKET,
        changes="launch",
        example="/var/run/openvswitch/db.sock",
    ),
    hv.Param(
        "network_up_script",
        hv.file(),
        help="The program that connects the node's end of each interface, in place of hvcore. It gets the name of that end as "
        "its argument, and the environment of Ganeti's kvm-vif-bridge.",
        default_means="hvcore connects the interfaces; mode 'ext' needs a program",
        changes="launch",
        example="/etc/hvcore/kvm-vif-bridge",
    ),
    hv.Param(
        "network_down_script",
        hv.file(),
        help="The program that runs for the node's end of each interface after the instance has ended.",
        default_means="no program",
        changes="launch",
        example="/etc/hvcore/net-down",
    ),
    help="The network of the instance.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface of the instance: its name inside, its MAC address, its bridge on the node, its IP addresses.

    ``mode``, ``vlan`` and ``mtu`` are keys of its NIC, ``to_guest`` and ``from_guest`` its bandwidths. ``bridge`` is
    ``link``: in mode routed, the routing table. ``ovs_socket`` is for mode openvswitch.
    ``up``, ``down`` and ``environment`` are the scripts that connect it, and their variables.
    """

    name: str
    mac: str
    bridge: str
    addresses: tuple[str, ...] = ()
    vlan: str | None = None
    mtu: int | None = None
    to_guest: int | None = None
    from_guest: int | None = None
    mode: str = "bridged"
    up: str | None = None
    down: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    ovs_socket: str = hv.OVS_SOCKET


def interfaces_of(instance: hv.Instance, params: hv.Params) -> tuple[Interface, ...]:
    """Its interfaces, in the order of its NICs; none unless ``network`` is ``veth``."""
    if params["network"] != "veth":
        return ()
    given = [entry.split("=", 1) for entry in params["network_addresses"]]
    up, down = params["network_up_script"], params["network_down_script"]
    return tuple(
        Interface(
            name=f"{_PREFIX}{index}",
            mac=instance.mac(index),
            bridge=nic.link or "",
            mode=nic.mode,
            up=up,
            down=down,
            environment=() if up is None and down is None else hv.script_environment(instance, index),
            addresses=(
                *(_inside(text, nic.mode) for text in nic.ip),
                *(text for name, text in given if name == f"{_PREFIX}{index}"),
            ),
            vlan=nic.vlan,
            mtu=nic.mtu,
            to_guest=nic.bandwidth_to_guest,
            from_guest=nic.bandwidth_from_guest,
            ovs_socket=params["ovs_socket"] or hv.OVS_SOCKET,
        )
        for index, nic in enumerate(instance.nics)
    )


def _inside(address: str, mode: str) -> str:
    """The address of the interface. At a routed port no other machine is in its network."""
    if mode != "routed":
        return address
    found = ipaddress.ip_interface(address).ip
    return f"{found}/{found.max_prefixlen}"


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Each NIC has an interface with a bridge, and no setting is without effect."""
    veth = params["network"] == "veth"
    for index, nic in enumerate(instance.nics):
        place = f"nics[{index}]"
        if not veth:
            what, todo = "has no effect", "set params.network to 'veth', or remove the NIC"
            yield hv.Problem(path=place, what=what, got=repr(nic.mode), todo=todo)
        elif nic.mode not in _MODES:
            todo = f"set mode to one of {', '.join(map(repr, _MODES))}"
            yield hv.Problem(path=f"{place}.mode", what="is not supported", got=repr(nic.mode), todo=todo)
        elif nic.mode == "ext" and params["network_up_script"] is None:
            what = "needs a script that connects the NIC, and network_up_script is not set"
            todo = "set params.network_up_script, or use another mode"
            yield hv.Problem(path=f"{place}.mode", what=what, got="'ext'", todo=todo)
        yield from _keys(place, nic)
    if veth and not instance.nics:
        yield hv.Problem(path="nics", what="is empty, and network is 'veth'", todo="add a [[nics]] table")
    if veth and params["isolation"] == "none":
        todo = "set isolation to 'namespaces'"
        yield hv.Problem(path="params.network", what="needs namespaces", got="'veth'", todo=todo)
    yield from _settings(params, len(instance.nics) if veth else None)
    if veth and instance.nics:
        yield from _addressing(instance.nics, interfaces_of(instance, params), params["network_gateways"])
    if params.layer("ovs_socket") == "instance" and all(nic.mode != "openvswitch" for nic in instance.nics):
        what, todo = "has no effect without a NIC of mode 'openvswitch'", "unset it, or use that mode"
        yield hv.Problem(path="params.ovs_socket", what=what, todo=todo)
    if params["network_gateways"] and instance.nics and all(nic.mode == "routed" for nic in instance.nics):
        what = "has no effect, because each NIC has mode 'routed', which has default routes"
        yield hv.Problem(path="params.network_gateways", what=what, todo="unset it")


def _addressing(
    nics: tuple[hv.Nic, ...], interfaces: tuple[Interface, ...], gateways: tuple[str, ...]
) -> Iterator[hv.Problem]:
    """An address that an interface has twice, and a gateway that no interface reaches: the kernel refuses both."""
    networks = []
    for index, interface in enumerate(interfaces):
        seen: set[str] = set()
        for place, text in enumerate(interface.addresses):
            found = ipaddress.ip_interface(text)
            networks.append(found.network)
            if str(found.ip) in seen:
                what, todo = f"has an address that {interface.name} has already", "leave one out"
                path = f"nics[{index}].ip" if place < len(nics[index].ip) else "params.network_addresses"
                yield hv.Problem(path=path, what=what, got=repr(text), todo=todo)
            seen.add(str(found.ip))
    for gateway in gateways:
        if not any(ipaddress.ip_address(gateway) in network for network in networks):
            what, todo = "is in the network of no interface", "correct it, or the prefix lengths of the addresses"
            yield hv.Problem(path="params.network_gateways", what=what, got=repr(gateway), todo=todo)


def _keys(place: str, nic: hv.Nic) -> Iterator[hv.Problem]:
    """Addresses without their network, and a cable that is pulled out."""
    if not nic.connected:
        what, todo = "is not supported by this driver", "unset it, or remove the NIC"
        yield hv.Problem(path=f"{place}.connected", what=what, got="False", todo=todo)
    for address in nic.ip:
        if "/" not in address and nic.mode != "routed":
            todo = f"write it with its prefix length, such as '{address}/24'"
            yield hv.Problem(path=f"{place}.ip", what="has no prefix length", got=repr(address), todo=todo)


def _settings(params: hv.Params, nics: int | None) -> Iterator[hv.Problem]:
    """``nics`` is the number of interfaces, None without network = 'veth'."""
    for key in ("network_addresses", "network_gateways", "network_mtu", *_SCRIPTS):
        # Scripts are the node's: it may name them for all its instances.
        if params[key] and nics is None and not (key in _SCRIPTS and params.layer(key) != "instance"):
            what, todo = "has no effect", "set network = 'veth', or unset it"
            yield hv.Problem(path=f"params.{key}", what=what, got=repr(params[key]), todo=todo)
    names = None if nics is None else {f"{_PREFIX}{index}" for index in range(nics)}
    for entry in params["network_addresses"]:
        name = entry.partition("=")[0]
        if names is not None and name not in names:
            what, todo = f"has an address for {name}, which does not exist", "the first NIC is eth0"
            yield hv.Problem(path="params.network_addresses", what=what, got=repr(entry), todo=todo)
    versions = [ipaddress.ip_address(gateway).version for gateway in params["network_gateways"]]
    if len(set(versions)) != len(versions):
        what, todo = "has two addresses of one IP version", "give at most one IPv4 and one IPv6 address"
        yield hv.Problem(path="params.network_gateways", what=what, todo=todo)
