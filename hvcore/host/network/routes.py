"""Routes and routing rules by netlink: of the node for single addresses, all with a protocol number, and default routes."""

from __future__ import annotations

import errno
import ipaddress
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.network.netlink import CREATE, DUMP, EXCL, Netlink, attribute, attributes, family_of

__all__ = [
    "LOCAL_TABLE",
    "MAIN_TABLE",
    "PRIORITY",
    "PROTOCOL",
    "Route",
    "Rule",
    "add_default_route",
    "add_route",
    "add_rule",
    "delete_rule",
    "delete_rules_of",
    "in_the_way",
    "route_device",
    "routes",
    "rules",
    "rules_for",
    "table_number",
]

MAIN_TABLE: Final = 254
LOCAL_TABLE: Final = 255
PRIORITY: Final = 5200
"""Of all rules of hvcore: before the table main (32766), after the table local (0)."""
PROTOCOL: Final = 104
"""In routes and rules of hvcore; no routing program has it (/etc/iproute2/rt_protos)."""

# linux/rtnetlink.h, linux/fib_rules.h
_NEWROUTE, _GETROUTE, _NEWRULE, _DELRULE, _GETRULE = 24, 26, 32, 33, 34
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_FRA_DST, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE, _FRA_PROTOCOL = 1, 3, 6, 15, 21
_UNICAST, _TO_TABLE, _SCOPE_LINK, _SCOPE_UNIVERSE = 1, 1, 253, 0
_BY_BOOT: Final = 3  # RTPROT_BOOT: made by a command, not by a routing program
_HEADER: Final = struct.Struct("=BBBBBBBBI")
_LENGTH_BYTE, _PROTOCOL_BYTE, _TYPE_BYTE = 1, 5, 7
_MOST: Final = 2**32 - 1
_NAMES: Final = ("/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables")
_METRIC: Final = {4: 0, 6: 1024}  # of a route that is added without one
_GONE: Final = frozenset((errno.ENOENT, errno.ESRCH))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Rule:
    """Packets to ``address``, or from the interface ``link``, are looked up in ``table``."""

    version: int
    table: int
    address: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Route:
    """Packets to ``address`` go to the link ``index``, by ``table``."""

    version: int
    table: int
    address: str
    index: int


def rules_for(link: str, table: int, addresses: Sequence[str]) -> Iterator[Rule]:
    """The rules of a link in a table other than main.

    They are for packets to the addresses, and for packets from the link of the same IP version.
    """
    for version in (4, 6):
        of_version = [address for address in addresses if (":" in address) == (version == 6)]
        if of_version:
            yield Rule(version=version, table=table, link=link)
        yield from (Rule(version=version, table=table, address=address) for address in of_version)


def table_number(text: str | None) -> int | None:
    """The number of a routing table, by its number or its name on this node; None if there is no such table."""
    if text is None:
        return MAIN_TABLE
    if text.isascii() and text.isdecimal():
        return int(text) if 0 < int(text) <= _MOST else None
    for path in _NAMES:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                rows = [line.partition("#")[0].split() for line in file]
        except OSError:
            continue
        number = next((row[0] for row in rows if len(row) == 2 and row[1] == text), "")
        if number.isascii() and number.isdecimal():
            return int(number)
    return None


def add_route(netlink: Netlink, address: str, *, index: int, table: int) -> None:
    """Route one address to a link. Raises OSError (EEXIST) when the table has a route for the address."""
    found = ipaddress.ip_address(address)
    scope = _SCOPE_LINK if found.version == 4 else _SCOPE_UNIVERSE
    head = _HEADER.pack(family_of(found.version), found.max_prefixlen, 0, 0, 0, PROTOCOL, scope, _UNICAST, 0)
    body = attribute(_RTA_DST, found.packed) + attribute(_RTA_OIF, index) + attribute(_RTA_TABLE, table)
    netlink.ask(_NEWROUTE, head + body, CREATE | EXCL)


def add_default_route(netlink: Netlink, gateway: str, *, index: int = 0) -> None:
    """Add the default route by that gateway, to the main table.

    With the ``index`` of a link, the gateway is at that link. The gateway ``0.0.0.0`` is then the link itself, where
    another machine answers for every address.
    """
    found = ipaddress.ip_address(gateway)
    scope = _SCOPE_LINK if found.is_unspecified else _SCOPE_UNIVERSE
    head = _HEADER.pack(family_of(found.version), 0, 0, 0, MAIN_TABLE, _BY_BOOT, scope, _UNICAST, 0)
    by = b"" if found.is_unspecified else attribute(_RTA_GATEWAY, found.packed)
    at = attribute(_RTA_OIF, index) if index else b""
    netlink.ask(_NEWROUTE, head + by + at, CREATE | EXCL)


def route_device(netlink: Netlink, address: str) -> int | None:
    """The index of the link to which the node sends packets for that address; None when it has no route."""
    found = ipaddress.ip_address(address)
    head = _HEADER.pack(family_of(found.version), found.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    try:
        answer = netlink.ask(_GETROUTE, head + attribute(_RTA_DST, found.packed))
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ESRCH):
            return None
        raise
    device = attributes(answer[0][_HEADER.size :]).get(_RTA_OIF)
    return None if device is None else int(struct.unpack("=i", device)[0])


def in_the_way(netlink: Netlink, addresses: Sequence[str], table: int) -> dict[str, int | None]:
    """Those addresses that have a route in the table which the kernel would keep or prefer, and the link of that route.

    None is the link of a route that drops packets.
    """
    found: dict[str, int | None] = {}
    for version in (4, 6):
        wanted = {ip.packed: str(ip) for ip in map(ipaddress.ip_address, addresses) if ip.version == version}
        if not wanted:
            continue
        whole = 32 if version == 4 else 128
        head = _HEADER.pack(family_of(version), 0, 0, 0, 0, 0, 0, 0, 0) + attribute(_RTA_TABLE, table)
        for body in _dump(netlink, head):
            if body[_LENGTH_BYTE] != whole:
                continue
            route = attributes(body[_HEADER.size :])
            metric = _number(route.get(_RTA_PRIORITY)) or 0
            if (address := wanted.get(route.get(_RTA_DST, b""))) is not None and metric <= _METRIC[version]:
                found[address] = _number(route.get(_RTA_OIF)) if body[_TYPE_BYTE] == _UNICAST else None
    return found


def _dump(netlink: Netlink, head: bytes) -> list[bytes]:
    try:
        return netlink.ask(_GETROUTE, head, DUMP)
    except OSError as error:
        if error.errno in _GONE:  # no such table
            return []
        raise


def _number(data: bytes | None) -> int | None:
    return None if data is None else int(struct.unpack("=I", data)[0])


def add_rule(netlink: Netlink, rule: Rule) -> None:
    """Add the rule; one that exists is fine."""
    try:
        netlink.ask(_NEWRULE, _rule(rule), CREATE | EXCL)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise


def delete_rule(netlink: Netlink, rule: Rule) -> None:
    """Delete the rule, each time that it exists."""
    _delete_each(netlink, _rule(rule))


def delete_rules_of(netlink: Netlink, link: str) -> None:
    """Delete all rules for packets from the interface of that name, also those that a script has made."""
    for version in (4, 6):
        _delete_each(netlink, _HEADER.pack(family_of(version), 0, 0, 0, 0, 0, 0, 0, 0) + attribute(_FRA_IIFNAME, link))


def _delete_each(netlink: Netlink, body: bytes) -> None:
    while True:
        try:
            netlink.ask(_DELRULE, body)
        except OSError as error:
            if error.errno in _GONE:
                return
            raise


def rules(netlink: Netlink, versions: Sequence[int] = (4, 6)) -> Iterator[Rule]:
    """The rules of hvcore, for guests of every run directory."""
    for version in versions:
        for body in netlink.ask(_GETRULE, _HEADER.pack(family_of(version), 0, 0, 0, 0, 0, 0, 0, 0), DUMP):
            found = attributes(body[_HEADER.size :])
            if found.get(_FRA_PROTOCOL) != bytes((PROTOCOL,)):
                continue
            address = str(ipaddress.ip_address(found[_FRA_DST])) if _FRA_DST in found else ""
            link = found.get(_FRA_IIFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
            yield Rule(version=version, table=struct.unpack("=I", found[_FRA_TABLE])[0], address=address, link=link)


def routes(netlink: Netlink, versions: Sequence[int] = (4, 6)) -> Iterator[Route]:
    """The routes of hvcore to a link, for guests of every run directory. The kernel leaves out those of other programs."""
    for version in versions:
        for body in netlink.ask(_GETROUTE, _HEADER.pack(family_of(version), 0, 0, 0, 0, PROTOCOL, 0, 0, 0), DUMP):
            found = attributes(body[_HEADER.size :])
            if body[_PROTOCOL_BYTE] != PROTOCOL or _RTA_OIF not in found or _RTA_DST not in found:
                continue
            yield Route(
                version=version,
                table=struct.unpack("=I", found[_RTA_TABLE])[0],
                address=str(ipaddress.ip_address(found[_RTA_DST])),
                index=struct.unpack("=i", found[_RTA_OIF])[0],
            )


def _rule(rule: Rule) -> bytes:
    address = None if not rule.address else ipaddress.ip_address(rule.address)
    length = 0 if address is None else address.max_prefixlen
    table = rule.table if rule.table < 256 else 0
    parts = [_HEADER.pack(family_of(rule.version), length, 0, 0, table, 0, 0, _TO_TABLE, 0)]
    if address is not None:
        parts.append(attribute(_FRA_DST, address.packed))
    if rule.link:
        parts.append(attribute(_FRA_IIFNAME, rule.link))
    parts += [attribute(_FRA_TABLE, rule.table), attribute(_FRA_PRIORITY, PRIORITY)]
    return b"".join((*parts, attribute(_FRA_PROTOCOL, bytes((PROTOCOL,)))))
