"""The network of an instance: the node's, none, or its own interfaces at bridges of the node."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import hvcore.plugin as hv

__all__ = ["PARAMS", "Interface", "addresses", "check", "interfaces_of"]

_PREFIX: Final = "eth"


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
                "veth": "An interface for each NIC, as a port of the bridge that the NIC names.",
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
    help="The network of the instance.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface of the instance: its name inside, its MAC address, its bridge on the node, its IP addresses.

    ``vlan`` and ``mtu`` are keys of its NIC, ``to_guest`` and ``from_guest`` its bandwidths.
    """

    name: str
    mac: str
    bridge: str
    addresses: tuple[str, ...] = ()
    vlan: str | None = None
    mtu: int | None = None
    to_guest: int | None = None
    from_guest: int | None = None


def interfaces_of(instance: hv.Instance, params: hv.Params) -> tuple[Interface, ...]:
    """Its interfaces, in the order of its NICs; none unless ``network`` is ``veth``."""
    if params["network"] != "veth":
        return ()
    given = [entry.split("=", 1) for entry in params["network_addresses"]]
    return tuple(
        Interface(
            name=f"{_PREFIX}{index}",
            mac=instance.mac(index),
            bridge=nic.link or "",
            addresses=(*nic.ip, *(text for name, text in given if name == f"{_PREFIX}{index}")),
            vlan=nic.vlan,
            mtu=nic.mtu,
            to_guest=nic.bandwidth_to_guest,
            from_guest=nic.bandwidth_from_guest,
        )
        for index, nic in enumerate(instance.nics)
    )


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Each NIC has an interface with a bridge, and no setting is without effect."""
    veth = params["network"] == "veth"
    for index, nic in enumerate(instance.nics):
        place = f"nics[{index}]"
        if not veth:
            what, todo = "has no effect", "set params.network to 'veth', or remove the NIC"
            yield hv.Problem(path=place, what=what, got=repr(nic.mode), todo=todo)
        elif nic.mode != "bridged":
            todo = "set mode = 'bridged' and link to a bridge"
            yield hv.Problem(path=f"{place}.mode", what="is not supported", got=repr(nic.mode), todo=todo)
        yield from _keys(place, nic)
    if veth and not instance.nics:
        yield hv.Problem(path="nics", what="is empty, and network is 'veth'", todo="add a [[nics]] table")
    if veth and params["isolation"] == "none":
        todo = "set isolation to 'namespaces'"
        yield hv.Problem(path="params.network", what="needs namespaces", got="'veth'", todo=todo)
    yield from _settings(params, len(instance.nics) if veth else None)


def _keys(place: str, nic: hv.Nic) -> Iterator[hv.Problem]:
    """Addresses without their network."""
    for address in nic.ip:
        if "/" not in address:
            todo = f"write it with its prefix length, such as '{address}/24'"
            yield hv.Problem(path=f"{place}.ip", what="has no prefix length", got=repr(address), todo=todo)


def _settings(params: hv.Params, nics: int | None) -> Iterator[hv.Problem]:
    """``nics`` is the number of interfaces, None without network = 'veth'."""
    for key in ("network_addresses", "network_gateways", "network_mtu"):
        if params[key] and nics is None:
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
