"""A network namespace in which passt runs, for users who are not root: the arguments of pasta, and nftables rules inside. Pure.

pasta connects the namespace to the node's network, with ordinary sockets. The loopback interface in it is not the node's,
so a guest cannot reach that. Rules in the namespace limit passt further, which has no rights over them. No rule and no
interface of the node is changed.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final

from hvcore.model.network.egress_rules import FAMILY, TABLE, elements_of, read_listing, text_to_create
from hvcore.model.network.passt_arguments import CLOSES_LOOPBACK, NodeNetwork
from hvcore.params.network_types import Forward

__all__ = [
    "inner_forwards",
    "inner_network",
    "namespace_rules",
    "pasta_arguments",
    "unlike_rules",
]

# Addresses for documentation (RFC 5737, RFC 3849): neither the node nor what a guest wants to reach has them.
_ADDRESSES: Final = {4: ("192.0.2.2", "24", "192.0.2.1"), 6: ("2001:db8:ffff::2", None, "fe80::1")}
_RESOLVER: Final = "192.0.2.3"
_UID: Final = 0  # of the caller, in the user namespace that owns the network
_FIRST_PORT: Final = 1024  # a program without privileges may listen on it in a new namespace
_LAST_PORT: Final = 65_535
_AT: Final = f"{FAMILY} {TABLE}"
_NODE: Final = {4: "node4", 6: "node6"}


def pasta_arguments(
    *, options: frozenset[str], node: NodeNetwork, forwards: Iterable[Forward], command: tuple[str, ...]
) -> tuple[str, ...]:
    """The arguments of pasta, which makes the namespace and runs the command in it. They end together."""
    words = ["--foreground", "--quiet", "--config-net"]
    if len(node.families) == 1:
        words.append(f"-{min(node.families)}")
    for family in sorted(node.families):
        address, length, gateway = _ADDRESSES[family]
        words += ["-a", address, *([] if length is None else ["-n", length]), "-g", gateway]
    words += [CLOSES_LOOPBACK, "none"] if CLOSES_LOOPBACK in options else ["--no-map-gw"]
    if _asks_pasta(node):
        words += ["--dns-forward", _RESOLVER]
    given = list(forwards)
    for protocol, option in (("tcp", "-t"), ("udp", "-u")):
        found = [(one, inner) for one, inner in _numbered(given) if one.protocol == protocol]
        for one, inner in found:
            at = "" if one.address is None else f"{one.address}/"
            words += [option, f"{at}{one.port}:{inner}"]
        # Without these, pasta opens every port that is open on the other side.
        words += [*([] if found else [option, "none"]), option.upper(), "none"]
    return (*words, "--", *command)


def inner_forwards(forwards: Iterable[Forward]) -> list[Forward]:
    """The forwards of passt in the namespace, to the same ports of the guest."""
    return [replace(one, address=None, port=inner) for one, inner in _numbered(list(forwards))]


def inner_network(node: NodeNetwork) -> NodeNetwork:
    """The node's network as passt finds it in the namespace: pasta asks a name server on the node's loopback interface."""
    return replace(node, upstream=(_RESOLVER,)) if _asks_pasta(node) else node


def namespace_rules(policy: str, *, node: NodeNetwork, udp: Iterable[int], addresses: Iterable[str]) -> str:
    """The nft commands that keep the policy in the namespace. ``udp`` are ports in it, ``addresses`` those of the node."""
    elements = elements_of(policy, _UID, _resolvers(node), udp)
    return text_to_create(elements) + "".join(f"{line}\n" for line in _of_namespace(addresses))


def _of_namespace(addresses: Iterable[str]) -> Iterator[str]:
    # Only passt's own ports are there.
    yield f'insert rule {_AT} output oifname "lo" accept'
    found = sorted({ipaddress.ip_address(text) for text in addresses}, key=lambda one: (one.version, int(one)))
    for version, name in _NODE.items():
        word = "ip" if version == 4 else "ip6"
        yield f"add set {_AT} {name} {{ type ipv{version}_addr; }}"
        if members := [str(one) for one in found if one.version == version]:
            yield f"add element {_AT} {name} {{ {', '.join(members)} }}"
        yield f"add rule {_AT} to_internet {word} daddr @{name} goto refuse"


def unlike_rules(document: Any, text: str, *, policy: str) -> str | None:
    """In what the table that nft lists differs from the commands that made it; None if it does not."""
    if document is None:
        return f"the table {_AT} is missing"
    listed = [next(iter(each.items())) for each in document["nftables"]]
    rules = Counter(str(data["chain"]) for kind, data in listed if kind == "rule")
    hooks = {str(data["name"]) for kind, data in listed if kind == "chain" and "hook" in data}
    lines = [line.split() for line in text.splitlines()]
    wanted = Counter(words[4] for words in lines if words[1] == "rule")
    if rules != wanted or hooks != {"input", "output"}:
        return f"the table {_AT} has other rules"
    guest = elements_of(policy, _UID)[0]
    if (guest.set, guest.text) not in read_listing(document).elements:
        return f"the table {_AT} lacks the policy {policy}"
    return None


def _resolvers(node: NodeNetwork) -> list[str]:
    known = dict.fromkeys((*node.name_servers, *node.upstream, *([_RESOLVER] if _asks_pasta(node) else [])))
    return [one for one in known if not ipaddress.ip_address(one).is_loopback]


def _asks_pasta(node: NodeNetwork) -> bool:
    servers = [ipaddress.ip_address(one) for one in node.name_servers]
    return 4 in node.families and bool(servers) and all(one.is_loopback for one in servers)


def _numbered(forwards: list[Forward]) -> list[tuple[Forward, int]]:
    """Each forward with its port in the namespace: the same, if passt may listen on that there."""
    taken = {one.port for one in forwards}
    free = iter(number for number in range(_LAST_PORT, _FIRST_PORT, -1) if number not in taken)
    return [(one, one.port if one.port >= _FIRST_PORT else next(free)) for one in forwards]
