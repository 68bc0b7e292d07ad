"""Links of the node, by netlink: what they are, and changes in one request each."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.network.netlink import (
    CREATE,
    DUMP,
    EXCL,
    Netlink,
    attribute,
    attribute_list,
    attributes,
    family_of,
    nested,
)

__all__ = [
    "Counters",
    "LinkFacts",
    "Neighbour",
    "add_address",
    "add_ifb",
    "add_macvtap",
    "add_veth",
    "delete_link",
    "find_link",
    "knows_kind",
    "link_counters",
    "links",
    "may_change_links",
    "neighbours",
    "node_addresses",
    "port_vlans",
    "set_link",
    "set_port_vlans",
    "the_link",
]

# linux/rtnetlink.h
_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19
_NEWADDR, _GETADDR, _GETNEIGH = 20, 22, 30
# linux/if_link.h
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _LINKINFO, _NET_NS_PID, _IFALIAS = 1, 3, 4, 5, 10, 18, 19, 20
_STATS64: Final = 23
_AF_SPEC, _NET_NS_FD, _EXT_MASK = 26, 28, 29
_INFO_KIND, _INFO_DATA = 1, 2
_SKIP_STATS: Final = 1 << 3
_BR_VLAN_FILTERING, _BR_DEFAULT_PVID = 7, 39
_VETH_PEER: Final = 1
_MACVLAN_MODE, _MACVLAN_BRIDGE = 1, 4
_ETHERNET: Final = 1  # linux/if_arp.h
# linux/if_bridge.h
_BRIDGE_FLAGS, _BRIDGE_VLAN_INFO = 0, 2
_SELF, _PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 2, 1 << 1, 1 << 2, 1 << 3, 1 << 4
_VLANS_IN_RANGES: Final = 1 << 2  # linux/rtnetlink.h, RTEXT_FILTER_BRVLAN_COMPRESSED
# linux/if_addr.h, linux/neighbour.h
_IFA_ADDRESS, _IFA_LOCAL, _NDA_DST, _NDA_LLADDR = 1, 2, 1, 2
_NO_DAD: Final = 0x02
_ALIAS_BYTES: Final = 255  # IFALIASZ, without the NUL

_LINK_HEADER: Final = struct.Struct("=BxHiII")
_COUNTERS: Final = struct.Struct("=QQQQ")  # the first four of rtnl_link_stats64, linux/if_link.h
_UP: Final = 1  # linux/if.h
_NO_NAMES: Final = frozenset((errno.ENODEV, errno.EINVAL, errno.ERANGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFacts:
    """A link as the kernel reports it.

    ``kind`` is ``bridge``, ``tun``, ``veth``, ... and empty for hardware; ``master`` is the index of its bridge or 0.
    ``vlan_filtering`` says whether a bridge filters VLANs, ``default_vlan`` is that of its new ports: 0 for none, and None
    when the kernel cannot filter VLANs. ``lower`` is the index of the link that it is on, such as that of a macvtap, or 0.
    """

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    address: str
    master: int
    alias: str
    vlan_filtering: bool = False
    default_vlan: int | None = None
    ethernet: bool = True
    lower: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a link has received and sent since it exists."""

    received_packets: int
    received_bytes: int
    sent_packets: int
    sent_bytes: int

    def from_other_end(self) -> Counters:
        """The same for what is connected to the link: it has sent what the link has received."""
        return Counters(
            received_packets=self.sent_packets,
            received_bytes=self.sent_bytes,
            sent_packets=self.received_packets,
            sent_bytes=self.received_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A row of the node's neighbour tables: the MAC address of an IP address at the link ``index``."""

    index: int
    address: str
    mac: str


def find_link(netlink: Netlink, name: str | int) -> LinkFacts | None:
    """The link of that name or index; None if it does not exist."""
    index, wanted = (name, b"") if isinstance(name, int) else (0, attribute(_IFNAME, name))
    body = _LINK_HEADER.pack(0, 0, index, 0, 0) + wanted + attribute(_EXT_MASK, _SKIP_STATS)
    try:
        return _facts(netlink.ask(_GETLINK, body)[0])
    except OSError as error:
        if error.errno in _NO_NAMES:
            return None
        raise


def the_link(netlink: Netlink, name: str | int) -> LinkFacts:
    """The link of that name or index. Raises OSError (ENODEV) if it does not exist."""
    found = find_link(netlink, name)
    if found is None:
        raise OSError(errno.ENODEV, f"there is no interface {name!r}")
    return found


def links(netlink: Netlink) -> Iterator[LinkFacts]:
    """All links."""
    body = _LINK_HEADER.pack(0, 0, 0, 0, 0) + attribute(_EXT_MASK, _SKIP_STATS)
    yield from map(_facts, netlink.ask(_GETLINK, body, DUMP))


def link_counters(netlink: Netlink) -> dict[int, Counters]:
    """The counters of all links, by index. The kernel adds up those of every CPU, so `links` leaves them out."""
    found = {}
    for body in netlink.ask(_GETLINK, _LINK_HEADER.pack(0, 0, 0, 0, 0), DUMP):
        counted = attributes(body[_LINK_HEADER.size :]).get(_STATS64, b"")
        if len(counted) >= _COUNTERS.size:
            received_packets, sent_packets, received_bytes, sent_bytes = _COUNTERS.unpack_from(counted)
            found[_LINK_HEADER.unpack_from(body)[2]] = Counters(
                received_packets=received_packets,
                received_bytes=received_bytes,
                sent_packets=sent_packets,
                sent_bytes=sent_bytes,
            )
    return found


def _facts(body: bytes) -> LinkFacts:
    _, hardware, index, flags, _ = _LINK_HEADER.unpack_from(body)
    found = attributes(body[_LINK_HEADER.size :])
    info = attributes(found.get(_LINKINFO, b""))
    kind = _text(info.get(_INFO_KIND, b""))
    bridge = attributes(info.get(_INFO_DATA, b"")) if kind == "bridge" else {}
    return LinkFacts(
        index=index,
        name=_text(found.get(_IFNAME, b"")),
        kind=kind,
        up=bool(flags & _UP),
        mtu=_number(found.get(_MTU)),
        address=found.get(_ADDRESS, b"").hex(":"),
        master=_number(found.get(_MASTER)),
        alias=_text(found.get(_IFALIAS, b"")),
        vlan_filtering=bridge.get(_BR_VLAN_FILTERING, b"\0") != b"\0",
        default_vlan=_number(bridge[_BR_DEFAULT_PVID]) if _BR_DEFAULT_PVID in bridge else None,
        ethernet=hardware == _ETHERNET,
        lower=_number(found.get(_LINK)),
    )


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")


def _number(data: bytes | None) -> int:
    return 0 if data is None else int.from_bytes(data, sys.byteorder)


def may_change_links(netlink: Netlink) -> bool:
    """Whether the kernel lets this process change links. It checks that first, so a link that does not exist is enough."""
    try:
        netlink.ask(_DELLINK, _LINK_HEADER.pack(0, 0, 2**31 - 1, 0, 0))
    except OSError as error:
        return error.errno not in (errno.EPERM, errno.EACCES)
    return True


def set_link(  # noqa: PLR0913 - each is one attribute of one request
    netlink: Netlink,
    index: int,
    *,
    address: str | None = None,
    mtu: int | None = None,
    master: int | None = None,
    alias: str | None = None,
    up: bool | None = None,
    namespace_fd: int | None = None,
) -> None:
    """Change what is given, in one request. With ``master`` 0 the link leaves its bridge."""
    parts = list(_settings(address=address, mtu=mtu, alias=alias))
    if master is not None:
        parts.append(attribute(_MASTER, master))
    if namespace_fd is not None:
        parts.append(attribute(_NET_NS_FD, namespace_fd))
    netlink.ask(_SETLINK if namespace_fd is None else _NEWLINK, _head(index, up=up) + b"".join(parts))


def _head(index: int, *, up: bool | None = None) -> bytes:
    return _LINK_HEADER.pack(0, 0, index, _UP if up else 0, 0 if up is None else _UP)


def _settings(*, address: str | None = None, mtu: int | None = None, alias: str | None = None) -> Iterator[bytes]:
    if address is not None:
        yield attribute(_ADDRESS, bytes.fromhex(address.replace(":", "")))
    if mtu is not None:
        yield attribute(_MTU, mtu)
    if alias is not None:
        yield attribute(_IFALIAS, alias.encode()[-_ALIAS_BYTES:])


def add_veth(netlink: Netlink, name: str, *, address: str, alias: str, peer: str, peer_address: str) -> None:
    """Make a pair of links in the namespace of the socket. Both are down."""
    ends = _head(0) + attribute(_IFNAME, peer) + b"".join(_settings(address=peer_address))
    info = nested(_LINKINFO, attribute(_INFO_KIND, "veth"), nested(_INFO_DATA, attribute(_VETH_PEER, ends)))
    body = _head(0) + attribute(_IFNAME, name) + b"".join(_settings(address=address))
    netlink.ask(_NEWLINK, body + info, CREATE | EXCL)
    set_link(netlink, the_link(netlink, name).index, alias=alias)  # the kernel ignores an alias in the first request


def add_macvtap(netlink: Netlink, name: str, *, lower: int, address: str, mtu: int | None = None) -> None:
    """Make a macvtap on the link ``lower``, which is down. All on one link reach each other."""
    mode = nested(_INFO_DATA, attribute(_MACVLAN_MODE, _MACVLAN_BRIDGE))
    info = nested(_LINKINFO, attribute(_INFO_KIND, "macvtap"), mode)
    settings = b"".join(_settings(address=address, mtu=mtu))
    netlink.ask(
        _NEWLINK, _head(0) + attribute(_IFNAME, name) + attribute(_LINK, lower) + settings + info, CREATE | EXCL
    )


def add_ifb(netlink: Netlink, name: str, *, address: str) -> None:
    """Make an ifb, a link to which packets are redirected and which passes them on. It is down."""
    info = nested(_LINKINFO, attribute(_INFO_KIND, "ifb"))
    settings = b"".join(_settings(address=address))
    netlink.ask(_NEWLINK, _head(0) + attribute(_IFNAME, name) + settings + info, CREATE | EXCL)


def knows_kind(netlink: Netlink, kind: str) -> bool:
    """Whether the kernel has links of that kind. It loads the module for it. Makes no link."""
    info = nested(_LINKINFO, attribute(_INFO_KIND, kind))
    try:  # an address that no link can have: the kernel checks that after it has found the kind
        netlink.ask(_NEWLINK, _head(0) + attribute(_ADDRESS, bytes(6)) + info, CREATE | EXCL)
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def delete_link(netlink: Netlink, index: int) -> None:
    """Remove the link. Does nothing when it does not exist."""
    try:
        netlink.ask(_DELLINK, _head(index))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def set_port_vlans(
    netlink: Netlink, index: int, *, untagged: int | None, tagged: Iterable[tuple[int, int]], without: int = 0
) -> None:
    """Add VLANs to a bridge port, and first remove the VLAN ``without``, unless that is 0."""
    if without:
        netlink.ask(_DELLINK, _vlans(index, [_vlan(without, 0)]))
    wanted = [] if untagged is None else [_vlan(untagged, _PVID | _UNTAGGED)]
    for low, high in tagged:
        several = ((low, _RANGE_BEGIN), (high, _RANGE_END)) if low != high else ((low, 0),)
        wanted += [_vlan(number, flags) for number, flags in several]
    if wanted:
        netlink.ask(_SETLINK, _vlans(index, wanted))


def _vlan(number: int, flags: int) -> bytes:
    return attribute(_BRIDGE_VLAN_INFO, struct.pack("=HH", flags, number))


def _vlans(index: int, entries: Iterable[bytes]) -> bytes:
    return _LINK_HEADER.pack(socket.AF_BRIDGE, 0, index, 0, 0) + nested(_AF_SPEC, *entries)


def port_vlans(netlink: Netlink, index: int) -> tuple[int | None, frozenset[int]]:
    """The VLAN of packets without a tag at that bridge port, None without one; and its VLANs with tags."""
    untagged: int | None = None
    tagged: set[int] = set()
    head = _LINK_HEADER.pack(socket.AF_BRIDGE, 0, 0, 0, 0) + attribute(_EXT_MASK, _VLANS_IN_RANGES)
    for body in netlink.ask(_GETLINK, head, DUMP):
        if _LINK_HEADER.unpack_from(body)[2] != index:
            continue
        first = 0
        for kind, data in attribute_list(attributes(body[_LINK_HEADER.size :]).get(_AF_SPEC, b"")):
            if kind != _BRIDGE_VLAN_INFO:
                continue
            flags, number = struct.unpack_from("=HH", data)
            first = number if not flags & _RANGE_END else first
            if flags & _PVID:
                untagged = number
            elif not flags & (_UNTAGGED | _RANGE_BEGIN):
                tagged.update(range(first, number + 1))
    return untagged, frozenset(tagged)


def add_address(netlink: Netlink, index: int, address: str, *, at_once: bool = False) -> None:
    """Give the link an address with its prefix length, such as ``10.0.0.5/24``.

    ``at_once`` uses an IPv6 address without asking first whether another machine has it.
    """
    found = ipaddress.ip_interface(address)
    flags = _NO_DAD if at_once else 0
    head = struct.pack("=BBBBI", family_of(found.version), found.network.prefixlen, flags, 0, index)
    packed = found.ip.packed
    body = head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    netlink.ask(_NEWADDR, body, CREATE | EXCL)


def node_addresses(netlink: Netlink) -> Iterator[str]:
    """The IP addresses of all links, those of the loopback interface included."""
    for body in netlink.ask(_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0), DUMP):
        found = attributes(body[8:])
        # With a peer, the other one is the peer's.
        if address := found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS):
            yield str(ipaddress.ip_address(address))


def neighbours(netlink: Netlink) -> Iterator[Neighbour]:
    """The IP addresses that the node has resolved."""
    for body in netlink.ask(_GETNEIGH, struct.pack("=BxxxiHBB", 0, 0, 0, 0, 0), DUMP):
        found = attributes(body[12:])
        if _NDA_DST in found and found.get(_NDA_LLADDR):
            address, mac = ipaddress.ip_address(found[_NDA_DST]), found[_NDA_LLADDR].hex(":")
            yield Neighbour(index=struct.unpack_from("=i", body, 4)[0], address=str(address), mac=mac)
