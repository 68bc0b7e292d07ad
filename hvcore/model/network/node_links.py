"""The links of a node that lead to a guest, and what they are connected to, as resources. Pure.

A NIC is a *link* of the node, such as a tap, and what the link is plugged into, such as a port of a bridge. Each is a
separate resource, so that one NIC can be acquired and released while the instance runs.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.network.ovs_bridge import OvsBridge
from hvcore.model.resource import Resource, UniqueValue

__all__ = [
    "IP_ADDRESSES",
    "MAC_ADDRESSES",
    "Bandwidth",
    "BridgePort",
    "DefaultRoutes",
    "Macvtap",
    "NodeLink",
    "OvsPort",
    "RoutedPort",
    "Tap",
    "TapFds",
    "Veth",
    "address_claim",
    "mac_claim",
]

MAC_ADDRESSES: Final = "mac-address"
"""The space of `UniqueValue` for MAC addresses, as numbers."""

IP_ADDRESSES: Final = {4: "ipv4-address", 6: "ipv6-address"}
"""The spaces of `UniqueValue` for the addresses of guests, as numbers, by IP version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLink:
    """The handle of a link: its ``name`` on the node."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TapFds(NodeLink):
    """An open tap device: one descriptor for each queue, and as many of vhost-net, or none."""

    fds: tuple[str, ...]
    vhost_fds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap(Resource[TapFds]):
    """A tap device of the node for one NIC of the guest, which has the address ``mac``.

    With ``vhost`` None, vhost-net is used if the node has it. ``vnet_hdr`` lets packets have a virtio-net header, if the
    node's taps can. ``mtu`` None leaves the MTU to what the tap is connected to. ``communication`` gives it a name that
    begins with ``gnt.com.``. A ``switch`` of Open vSwitch that does not complete checksums gets a tap without that header.
    """

    mac: str
    queues: int = 1
    vhost: bool | None = False
    vnet_hdr: bool = True
    mtu: int | None = None
    communication: bool = False
    switch: OvsBridge | None = None

    def needs(self) -> tuple[Resource[Any], ...]:
        """The switch, if there is one."""
        return () if self.switch is None else (self.switch,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Macvtap(Resource[TapFds]):
    """A macvtap interface on the interface ``lower``, for one NIC of the guest, which has the address ``mac``.

    The fields are as those of `Tap`. ``mtu`` None is that of the lower interface.
    """

    mac: str
    lower: str
    queues: int = 1
    vhost: bool | None = False
    vnet_hdr: bool = True
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth(Resource[None]):
    """Limits of a link in bits per second: to the guest and from the guest, which has the address ``mac``."""

    link: Resource[Any]
    mac: str
    to_guest: int | None = None
    from_guest: int | None = None

    def needs(self) -> tuple[Resource[Any], ...]:
        """The link."""
        return (self.link,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Veth(Resource[NodeLink]):
    """A veth pair. One end, named ``inner``, is in the network namespace that ``inside`` holds, the other on the node.

    ``mac`` and ``addresses`` (with their prefix lengths) are those of the inner end, ``mtu`` that of both. With ``mtu``
    None, both have that of the node's link ``mtu_of``, if it is named. A ``switch`` of Open vSwitch that does not complete
    checksums gets them from the inner end.
    """

    inner: str
    mac: str
    inside: Resource[Any]
    addresses: tuple[str, ...] = ()
    mtu: int | None = None
    mtu_of: str = ""
    switch: OvsBridge | None = None

    def needs(self) -> tuple[Resource[Any], ...]:
        """The network namespace of the inner end, and the switch, if there is one."""
        return (self.inside,) if self.switch is None else (self.inside, self.switch)


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultRoutes(Resource[None]):
    """Default routes in the network namespace that ``inside`` holds, added after all interfaces.

    ``by_links`` are names of interfaces inside that are at a `RoutedPort`, each with the IP version of a route by it.
    """

    gateways: tuple[str, ...]
    inside: Resource[Any]
    by_links: tuple[tuple[str, int], ...] = ()

    def needs(self) -> tuple[Resource[Any], ...]:
        """Their network namespace."""
        return (self.inside,)


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgePort(Resource[None]):
    """A link as a port of a bridge of the node.

    ``vlan`` is a clean value of `hvcore.params.network_types.vlan`; None leaves the VLAN to the bridge. ``mtu`` None is
    that of the bridge.
    """

    link: Resource[Any]
    bridge: str
    vlan: str | None = None
    mtu: int | None = None

    def needs(self) -> tuple[Resource[Any], ...]:
        """The link."""
        return (self.link,)


@dataclass(frozen=True, slots=True, kw_only=True)
class OvsPort(Resource[None]):
    """A link as a port of a bridge of Open vSwitch, for a NIC with the address ``mac``.

    ``vlan`` is a clean value of `hvcore.params.network_types.vlan`; with None the port is in all VLANs of the bridge.
    ``mtu`` None is that of the bridge. ``to_guest`` and ``from_guest`` are the highest rates, in bits per second.
    """

    link: Resource[Any]
    bridge: OvsBridge
    mac: str
    vlan: str | None = None
    mtu: int | None = None
    to_guest: int | None = None
    from_guest: int | None = None

    def needs(self) -> tuple[Resource[Any], ...]:
        """The link and the bridge."""
        return (self.link, self.bridge)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedPort(Resource[None]):
    """A link to which the node routes ``addresses``, in the routing table ``table``: a number, a name, or None for main.

    In a table other than main, rules lead packets to the addresses and packets from the link into the table. The node
    answers ARP and neighbour requests at the link, where it has the address ``fe80::1``. ``table_given_by`` is the field of
    the table.
    """

    link: Resource[Any]
    addresses: tuple[str, ...]
    table: str | None = None
    mtu: int | None = None
    table_given_by: str = ""

    def needs(self) -> tuple[Resource[Any], ...]:
        """The link."""
        return (self.link,)

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions of the addresses."""
        return tuple(sorted({ipaddress.ip_address(address).version for address in self.addresses}))


def address_claim(key: str, given_by: str, address: str) -> UniqueValue:
    """The right to be the only instance of the node to which that address is routed."""
    found = ipaddress.ip_address(address)
    space, number = IP_ADDRESSES[found.version], int(found)
    return UniqueValue(key=key, given_by=given_by, space=space, value=number, first=number, last=number)


def mac_claim(key: str, given_by: str, mac: str) -> UniqueValue:
    """The right to be the only instance of the node with that MAC address."""
    number = int(mac.replace(":", ""), 16)
    return UniqueValue(key=key, given_by=given_by, space=MAC_ADDRESSES, value=number, first=number, last=number)
