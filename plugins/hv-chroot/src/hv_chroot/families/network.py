"""What it has of a network: the node's, none, or interfaces of its own at bridges of the node. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import hvcore.plugin as hv

__all__ = ["PARAMS", "Interface", "addresses", "check", "interfaces_of"]

_NAMED: Final = "eth"


def addresses() -> hv.ParamType:
    """An address with its prefix length, ``10.0.0.5/24``, for the first interface, or ``eth1=10.0.0.5/24``."""
    expects = "an IPv4 or IPv6 address with its prefix length, such as '10.0.0.5/24' or 'eth1=fd00::5/64'"

    def parse(value: object) -> str:
        name, found, text = value.rpartition("=") if isinstance(value, str) else ("", "", "")
        name = name if found else f"{_NAMED}0"
        if not name.startswith(_NAMED) or not name.removeprefix(_NAMED).isdecimal() or "/" not in text:
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
        hv.one_of("host", "none", "veth"),
        default="host",
        help="It shares the node's network, as in Ganeti; or has none; or has interfaces of its own, one for each of "
        "its NICs, at the bridges that those name.",
        example="veth",
    ),
    hv.Param(
        "network_addresses",
        hv.list_of(addresses()),
        default=(),
        help="The addresses of its interfaces, which are called eth0, eth1, ... in the order of its NICs.",
        example=["10.0.0.5/24", "eth1=fd00::5/64"],
    ),
    hv.Param(
        "network_gateways",
        hv.list_of(hv.address(), maximum=2),
        default=(),
        help="Where packets to everywhere else go: an IPv4 address, an IPv6 address, or one of each.",
        example=["10.0.0.1"],
    ),
    hv.Param(
        "network_mtu",
        hv.integer(minimum=68, maximum=65535),
        unit="bytes",
        help="The largest packet of its interfaces; unset, that of the bridge.",
        example=1400,
    ),
    help="Its network.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface of the instance: its name inside, its MAC address, the bridge of the node, and its addresses."""

    name: str
    mac: str
    bridge: str
    addresses: tuple[str, ...] = ()


def interfaces_of(instance: hv.Instance, params: hv.Params) -> tuple[Interface, ...]:
    """Its interfaces, in the order of its NICs; none unless it has a network of its own."""
    if params["network"] != "veth":
        return ()
    given = [entry.split("=", 1) for entry in params["network_addresses"]]
    return tuple(
        Interface(
            name=f"{_NAMED}{index}",
            mac=instance.mac(index),
            bridge=nic.link or "",
            addresses=tuple(text for name, text in given if name == f"{_NAMED}{index}"),
        )
        for index, nic in enumerate(instance.nics)
    )


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """NICs and interfaces belong together, and nothing is set that has nothing to act on."""
    own = params["network"] == "veth"
    for index, nic in enumerate(instance.nics):
        place = f"nics[{index}]"
        if not own:
            what, todo = "is an interface that it does not have", "set params.network to 'veth', or remove it"
            yield hv.Problem(path=place, what=what, got=repr(nic.mode), todo=todo)
        elif nic.mode != "bridged":
            todo = "set mode = 'bridged' and link to a bridge"
            yield hv.Problem(path=f"{place}.mode", what="is not possible here", got=repr(nic.mode), todo=todo)
        elif nic.link is None:
            yield hv.Problem(path=f"{place}.link", what="must be set", got="None", todo="name a bridge of the node")
    if own and not instance.nics:
        yield hv.Problem(path="nics", what="is empty, and network is 'veth'", todo="add a [[nics]] table")
    yield from _set_for_nothing(instance, params, own=own)
    if own and params["isolation"] == "none":
        todo = "set isolation to 'namespaces'"
        yield hv.Problem(path="params.network", what="needs a namespace of its own", got="'veth'", todo=todo)


def _set_for_nothing(instance: hv.Instance, params: hv.Params, *, own: bool) -> Iterator[hv.Problem]:
    for key in ("network_addresses", "network_gateways", "network_mtu"):
        if params[key] and not own:
            what, todo = "is for network = 'veth' only", "set that, or unset this"
            yield hv.Problem(path=f"params.{key}", what=what, got=repr(params[key]), todo=todo)
    names = {f"{_NAMED}{index}" for index in range(len(instance.nics))}
    for entry in params["network_addresses"] if own else ():
        name = entry.partition("=")[0]
        if name not in names:
            todo = "the first NIC is eth0"
            yield hv.Problem(path="params.network_addresses", what=f"there is no {name}", got=repr(entry), todo=todo)
    versions = [ipaddress.ip_address(gateway).version for gateway in params["network_gateways"]]
    if len(set(versions)) != len(versions):
        what, todo = "has two of the same kind", "give one IPv4 and one IPv6 address at most"
        yield hv.Problem(path="params.network_gateways", what=what, todo=todo)
