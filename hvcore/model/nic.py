"""The keys of a network interface in an instance file, and the rules between them. They are the same for each driver."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Final

from hvcore.errors import Problem
from hvcore.model.devices import Nic
from hvcore.params.network_types import addresses, bit_rate, forward, forward_of, mac, vlan
from hvcore.params.param import Param, ParamGroup
from hvcore.params.types import boolean, integer, list_of, one_of, regexp

__all__ = ["BOOT_INDEX", "NIC_KEYS", "nic_problems"]


BOOT_INDEX: Final = Param(
    "boot_index",
    integer(minimum=1, maximum=1000),
    help="The position of this device in the boot order, from 1.",
    default_means="as the driver's parameters say",
    example=1,
)
"""The key of disks and of NICs."""

_MODES: Final = {
    "user": "The guest's own small network, made by the node. The guest reaches other machines through the node. "
    "Other machines reach the guest only through forward.",
    "bridged": "A port of the bridge that link names.",
    "routed": "An interface of the node. The node routes the addresses in ip to it.",
    "openvswitch": "A port of the Open vSwitch bridge that link names.",
    "macvtap": "A macvtap interface on the interface that link names.",
    "ext": "An interface that a script of the node connects.",
}
_EGRESS: Final = {
    "none": "Nothing. The guest only answers connections that come in through forward.",
    "internet": "Public addresses only. No private or link-local address, and no address of the node.",
    "all": "Everything that the node reaches, but not the node's loopback interface.",
}


def _rate(key: str, what: str) -> Param:
    return Param(
        key,
        bit_rate(),
        unit="bits per second",
        help=f"The highest rate of the packets that the guest {what}.",
        default_means="no limit",
        example="80M",
    )


NIC_KEYS: Final = ParamGroup(
    "nics",
    Param(
        "mode",
        one_of(_MODES),
        default="user",
        help="How the interface is connected. The driver decides which modes it supports.",
        example="bridged",
    ),
    Param(
        "mac",
        mac(),
        help="The MAC address of the interface. Each interface of a node needs its own.",
        default_means="derived from the uuid of the instance and the position of the interface",
        example="aa:00:00:4b:c1:01",
    ),
    Param(
        "link",
        regexp(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,14}", "a network interface name of at most 15 characters"),
        help="The node's network interface or bridge to which the NIC is connected. In mode routed, the routing table.",
        default_means="none",
        example="br0",
    ),
    Param(
        "name",
        regexp("[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}", "a name of letters, digits, '_', '.', ':' and '-'"),
        help="The name of the NIC. Network scripts get it. A NIC whose name begins with 'ganeti:communication:' has an interface whose "
        "name begins with 'gnt.com.'.",
        default_means="none",
        example="front",
    ),
    Param(
        "ip",
        addresses(),
        default=(),
        help="The guest's addresses at this interface, with or without a prefix length. In mode routed, the node routes them "
        "to the guest. Driver chroot sets them inside the instance. Network scripts get them.",
        example=["192.0.2.7", "2001:db8::7/64"],
    ),
    Param(
        "vlan",
        vlan(),
        help="The VLAN of the bridge port: a number, or a trunk of several VLANs. Packets of a trunk keep their tags.",
        default_means="that of the bridge",
        example="trunk:10,20-30",
    ),
    Param(
        "mtu",
        integer(minimum=68, maximum=65520),
        unit="bytes",
        help="The size of the largest packet of the interface.",
        default_means="that of the bridge or interface to which it is connected",
        example=1400,
    ),
    _rate("bandwidth_to_guest", "receives"),
    _rate("bandwidth_from_guest", "sends"),
    Param(
        "forward",
        list_of(forward()),
        default=(),
        help="The ports of the node that lead to ports of the guest, as [ADDRESS:]PORT:GUEST_PORT[/PROTOCOL]. For port 0, hvcore "
        "chooses a free port.",
        example=["2222:22", "127.0.0.1:8080:80/tcp", "[::1]:5353:53/udp"],
    ),
    Param(
        "egress",
        one_of(_EGRESS),
        help="What the guest can reach.",
        default_means="the same as all",
        example="internet",
    ),
    BOOT_INDEX,
    Param(
        "connected",
        boolean(),
        default=True,
        help="Whether the cable of the interface is plugged in, as the guest sees it. hv modify plugs it in and pulls it out.",
        example=False,
    ),
)
"""The keys of a table under ``[[nics]]`` of an instance file."""

_NEED_LINK: Final = {"bridged": "bridge", "openvswitch": "Open vSwitch bridge", "macvtap": "interface for its traffic"}
_WIRED: Final = ("bridged", "routed", "openvswitch", "macvtap", "ext")
_SWITCHED: Final = ("bridged", "openvswitch", "ext")
_WITH_SCRIPTS: Final = ("bridged", "routed", "openvswitch", "ext")
# The keys that only some modes have.
_MODES_OF: Final = {
    "link": _WIRED,
    "ip": _WITH_SCRIPTS,
    "vlan": _SWITCHED,
    "bandwidth_to_guest": _WIRED,
    "bandwidth_from_guest": _WIRED,
    "forward": ("user",),
    "egress": ("user",),
}

# The fields that a mode lacks, and their values when they are unset: most NICs need no further look.
_LACKED: Final = {
    mode: operator.attrgetter(*(key for key, modes in _MODES_OF.items() if mode not in modes)) for mode in _MODES
}
_UNSET: Final = {mode: fields(Nic()) for mode, fields in _LACKED.items()}


def nic_problems(nics: Sequence[Nic], macs: Sequence[str]) -> Iterator[Problem]:
    """The keys that contradict the mode of their NIC, and values that two NICs share. ``macs`` are the addresses in use."""
    for index, nic in enumerate(nics):
        yield from _of_mode(f"nics[{index}]", nic)
    taken: dict[str, int] = {}
    for index, address in enumerate(macs):
        if not address.strip("0:"):
            yield Problem(
                path=f"nics[{index}].mac",
                what="is zero, which no interface can have",
                got=repr(address),
                todo="unset it",
            )
            continue
        first = taken.setdefault(address.lower(), index)
        if first != index:
            what = f"is also the address of nics[{first}]"
            yield Problem(path=f"nics[{index}].mac", what=what, got=repr(address), todo="give each NIC its own")
    names: dict[str, int] = {}
    for index, nic in enumerate(nics):
        if nic.name is not None and (first := names.setdefault(nic.name, index)) != index:
            what = f"is also the name of nics[{first}]"
            yield Problem(path=f"nics[{index}].name", what=what, got=repr(nic.name), todo="give each NIC its own")
    yield from _of_routed_addresses(nics)
    yield from _of_forwards(nics)


def _of_routed_addresses(nics: Sequence[Nic]) -> Iterator[Problem]:
    """The node routes an address to one interface."""
    routed: dict[str, int] = {}
    for index, nic in enumerate(nics):
        for text in nic.ip if nic.mode == "routed" else ():
            address = text.partition("/")[0]
            if address in routed:
                what = f"is routed to nics[{routed[address]}] already"
                yield Problem(path=f"nics[{index}].ip", what=what, got=repr(text), todo="leave one out")
            routed.setdefault(address, index)


def _of_mode(place: str, nic: Nic) -> Iterator[Problem]:
    lacked = _LACKED[nic.mode](nic) != _UNSET[nic.mode]
    for key, modes in _MODES_OF.items() if lacked else ():
        value = getattr(nic, key)
        if value not in (None, ()) and nic.mode not in modes:
            shown = ", ".join(map(repr, modes))
            todo = f"unset it, or set mode to {'one of ' if len(modes) > 1 else ''}{shown}"
            got = repr(list(value)) if isinstance(value, tuple) else repr(value)
            yield Problem(path=f"{place}.{key}", what=f"has no effect in mode {nic.mode!r}", got=got, todo=todo)
    if nic.mode in _NEED_LINK and nic.link is None:
        todo = f"name the {_NEED_LINK[nic.mode]}"
        yield Problem(path=f"{place}.link", what=f"is not set, and mode {nic.mode!r} needs a link", todo=todo)
    if nic.mode == "routed" and not nic.ip:
        what = "is not set, and mode 'routed' needs an address"
        yield Problem(path=f"{place}.ip", what=what, todo="give the guest's addresses")


def _of_forwards(nics: Sequence[Nic]) -> Iterator[Problem]:
    forwards = [
        (f"nics[{index}].forward", text, forward_of(text)) for index, nic in enumerate(nics) for text in nic.forward
    ]
    for number, (place, text, one) in enumerate(forwards):
        clash = next((other for _, other, its in forwards[:number] if one.overlaps(its)), None)
        if clash is not None:
            what = f"has a port of the node that {clash!r} also has"
            yield Problem(path=place, what=what, got=repr(text), todo="use another port of the node")
