"""What a guest may reach: the resource, and the nftables table that enforces it by uid. Pure.

The table has a chain for each policy. The map ``guests`` leads the packets of a uid to one of them. A uid that is not in
the map is not concerned, and a packet that the table lets pass still meets the rules of all other tables.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.names import sha256_hex
from hvcore.model.resource import Identity, Resource

__all__ = [
    "FAMILY",
    "POLICIES",
    "TABLE",
    "Egress",
    "Element",
    "Listing",
    "elements_of",
    "is_private",
    "read_listing",
    "rules_digest",
    "text_to_add",
    "text_to_create",
    "text_to_delete",
    "text_to_remove_table",
    "text_to_replace",
]

POLICIES: Final = {
    "none": "nothing; only answers to connections to its forwarded ports leave the node",
    "internet": "public addresses; nothing private, link-local or of the node",
    "all": "everything that the node reaches, but not the node's loopback addresses",
}
"""Each policy, with what a guest reaches."""

FAMILY: Final = "inet"
TABLE: Final = "hvcore"
_AT: Final = f"{FAMILY} {TABLE}"
_GUESTS: Final = "guests"
_RESOLVERS: Final = {4: "resolvers4", 6: "resolvers6"}
_UDP: Final = "udp_forwards"

_PRIVATE_IPV4: Final = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
)
# With the addresses that a translator makes IPv4 of: ::/96, ::ffff:0:0/96, 64:ff9b::/96, 64:ff9b:1::/48, 2002::/16.
_PRIVATE_IPV6: Final = (
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
)
_LOOPBACK_IPV4: Final = ("0.0.0.0/8", "127.0.0.0/8")
_LOOPBACK_IPV6: Final = ("::/127", "::ffff:127.0.0.0/104")

# Addresses and ports that a UDP packet came from, to a forwarded port. An answer is let out for three minutes.
_PEERS: Final = "{{ type ipv{0}_addr . inet_service . inet_service; size 65535; flags dynamic,timeout; timeout 3m; }}"

_OBJECTS: Final = (
    f'table {_AT} {{ comment "written by hvcore, which restores it; put your rules into another table"; }}',
    f"map {_AT} {_GUESTS} {{ type uid : verdict; }}",
    f"set {_AT} {_RESOLVERS[4]} {{ type uid . ipv4_addr; }}",
    f"set {_AT} {_RESOLVERS[6]} {{ type uid . ipv6_addr; }}",
    f"set {_AT} {_UDP} {{ type inet_service; }}",
    f"set {_AT} udp_peers4 {_PEERS.format(4)}",
    f"set {_AT} udp_peers6 {_PEERS.format(6)}",
)
_HOOKED: Final = {
    "input": "{ type filter hook input priority filter; policy accept; }",
    "output": "{ type filter hook output priority filter; policy accept; }",
}
_RESOLVER_RULES: Final = (
    f"meta skuid . ip daddr @{_RESOLVERS[4]} th dport 53 accept",
    f"meta skuid . ip6 daddr @{_RESOLVERS[6]} th dport 53 accept",
)


def _to(policy: str) -> str:
    return f"to_{policy}"


def _anonymous(members: Iterable[str]) -> str:
    return f"{{ {', '.join(members)} }}"


# A chain comes after those that it leads to.
_CHAINS: Final = {
    # A reset is an answer to TCP only.
    "refuse": ("meta l4proto tcp reject with tcp reset", "drop"),
    "answers": (
        # Every TCP packet but the one that begins a connection. Without connection tracking, which would be for the node.
        "tcp flags & (syn | ack) != syn accept",
        "ip daddr . udp dport . udp sport @udp_peers4 accept",
        "ip6 daddr . udp dport . udp sport @udp_peers6 accept",
    ),
    _to("none"): ("jump answers", "goto refuse"),
    _to("internet"): (
        "jump answers",
        *_RESOLVER_RULES,
        f"fib daddr type {_anonymous(('local', 'broadcast', 'anycast', 'multicast'))} goto refuse",
        f"ip daddr {_anonymous(_PRIVATE_IPV4)} goto refuse",
        f"ip6 daddr {_anonymous(_PRIVATE_IPV6)} goto refuse",
    ),
    _to("all"): (
        "jump answers",
        *_RESOLVER_RULES,
        f"ip daddr {_anonymous(_LOOPBACK_IPV4)} goto refuse",
        f"ip6 daddr {_anonymous(_LOOPBACK_IPV6)} goto refuse",
    ),
    "input": (
        f"udp dport @{_UDP} update @udp_peers4 {{ ip saddr . udp sport . udp dport }}",
        f"udp dport @{_UDP} update @udp_peers6 {{ ip6 saddr . udp sport . udp dport }}",
    ),
    "output": (f"meta skuid vmap @{_GUESTS}",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress(Resource[None]):
    """The rule about what a program reaches: the one that ``owner`` is the user of, and that moves the guest's packets.

    ``policy`` is one of `POLICIES`. ``required`` is False for a default: where it cannot be enforced, that is said and the
    guest starts. ``udp`` are the resources of forwarded UDP ports: their handle is the port. ``uid_shared_with`` says what
    else the program connects for, which the rules would stop: they are then not made.
    ``passt`` is the path of that program, if it is passt: its newer releases keep policy ``all`` on their own.
    """

    policy: str
    owner: Identity
    required: bool = True
    udp: tuple[Resource[int], ...] = ()
    uid_shared_with: str = ""
    passt: str = ""

    def needs(self) -> tuple[Resource[Any], ...]:
        """The user of the program, and the ports."""
        return (self.owner, *self.udp)


@dataclass(frozen=True, slots=True, order=True)
class Element:
    """One element of a set of the table, for the guest of one uid. ``str`` makes the key of its reservation of it."""

    uid: int
    set: str
    value: str

    def __str__(self) -> str:
        return f"{self.uid}:{self.set}:{self.value}"

    @classmethod
    def parse(cls, key: str) -> Element:
        """The element of that key. Raises ValueError for anything else."""
        uid, _, rest = key.partition(":")
        name, _, value = rest.partition(":")
        found = cls(int(uid), name, value)
        valid = {_GUESTS: POLICIES.__contains__, _UDP: str.isdecimal}.get(name, _is_address)
        if str(found) != key or name not in (_GUESTS, _UDP, *_RESOLVERS.values()) or not valid(value):
            msg = f"{key!r} is not the key of an element"
            raise ValueError(msg)
        return found

    @property
    def text(self) -> str:
        """The element as nft reads it."""
        if self.set == _GUESTS:
            return f"{self.uid} : goto {_to(self.value)}"
        return self.value if self.set == _UDP else f"{self.uid} . {self.value}"


def _is_address(text: str) -> bool:
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


def elements_of(policy: str, uid: int, resolvers: Iterable[str] = (), udp: Iterable[int] = ()) -> list[Element]:
    """What the table gets for one guest. ``resolvers`` are addresses that it may ask, but not with policy none."""
    found = [Element(uid, _GUESTS, policy)]
    for text in () if policy == "none" else resolvers:
        address = ipaddress.ip_address(text)
        found.append(Element(uid, _RESOLVERS[address.version], str(address)))
    found += [Element(uid, _UDP, str(port)) for port in udp]
    return list(dict.fromkeys(found))


def is_private(address: str) -> bool:
    """Whether policy internet refuses the address on every node."""
    found = ipaddress.ip_address(address)
    networks = _PRIVATE_IPV4 if found.version == 4 else _PRIVATE_IPV6
    return any(found in ipaddress.ip_network(one) for one in networks)


def text_to_add(elements: Iterable[Element]) -> str:
    """The nft commands that add the elements to the existing table."""
    return _lines(_changes("add", elements))


def text_to_delete(elements: Iterable[Element]) -> str:
    """The nft commands that delete the elements, whether they exist or not."""
    found = list(elements)
    return _lines([*_changes("add", found), *_changes("delete", found)])


def text_to_remove_table(elements: Iterable[Element]) -> str:
    """The nft commands that delete the elements and the table. The kernel refuses them while the table has another guest."""
    chains = [f"delete chain {_AT} {_to(policy)}" for policy in POLICIES]
    return _lines([text_to_delete(elements).rstrip(), *chains, f"delete table {_AT}"])


def text_to_create(elements: Iterable[Element]) -> str:
    """The nft commands that make the table with the elements. If the table exists, they keep its other elements."""
    return _lines([*_rules(), *_changes("add", elements)])


def text_to_replace(elements: Iterable[Element], others: Iterable[tuple[str, str]] = ()) -> str:
    """The nft commands that replace the table. ``others`` are more elements, ``(set, text)``."""
    more = [f"add element {_AT} {name} {{ {text} }}" for name, text in others]
    return _lines([f"add table {_AT}", f"delete table {_AT}", *_rules(), *_changes("add", elements), *more])


def rules_digest() -> str:
    """Changes when this module's rules do."""
    return sha256_hex(_lines(_rules()).encode())


def _rules() -> Iterator[str]:
    yield from (f"add {text}" for text in _OBJECTS)
    for name in _CHAINS:
        yield f"add chain {_AT} {name} {_HOOKED.get(name, '')}".rstrip()
        yield f"flush chain {_AT} {name}"
    for name, rules in _CHAINS.items():
        yield from (f"add rule {_AT} {name} {rule}" for rule in rules)


def _changes(verb: str, elements: Iterable[Element]) -> Iterator[str]:
    for element in elements:
        yield f"{verb} element {_AT} {element.set} {{ {element.text} }}"


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Listing:
    """A table as nft lists it: a digest of everything but elements, and the elements of guests as ``(set, text)``."""

    digest: str
    elements: frozenset[tuple[str, str]]


def read_listing(document: Any) -> Listing:
    """The table in the JSON document of ``nft -j list table``. Raises ValueError for anything else."""
    try:
        found = [next(iter(each.items())) for each in document["nftables"]]
        objects = [(kind, dict(data)) for kind, data in found if kind != "metainfo"]
        elements = frozenset(token for _, data in objects for token in _tokens(data))
    except (AttributeError, KeyError, StopIteration, TypeError) as error:
        msg = f"nft lists the table in a form that is not known: {error}"
        raise ValueError(msg) from error
    rules = [data | {"handle": 0} for kind, data in objects if kind == "rule"]
    others = [(kind, data | {"handle": 0, "elem": []}) for kind, data in objects if kind != "rule"]
    shape = {"rules": rules, "others": sorted(json.dumps(each, sort_keys=True) for each in others)}
    return Listing(sha256_hex(json.dumps(shape, sort_keys=True).encode()), elements)


def _tokens(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    name = data.get("name", "")
    for element in data.get("elem", ()):
        if name == _GUESTS:
            uid, verdict = element
            yield name, f"{uid} : goto {verdict['goto']['target']}" if "goto" in verdict else f"{uid} : {verdict}"
        elif name in _RESOLVERS.values():
            uid, address = element["concat"]
            yield name, f"{uid} . {ipaddress.ip_address(address)}"
        elif name == _UDP:
            yield name, str(element)
