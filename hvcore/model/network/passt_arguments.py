"""The arguments of passt, for its releases of 2023 (Debian 12) and 2025 (Debian 13). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Final

from hvcore.frozen import dataclass
from hvcore.params.network_types import Forward

__all__ = ["CLOSES_LOOPBACK", "NodeNetwork", "asked_options", "dns_note", "guest_addresses", "passt_arguments"]

_NETWORK: Final = ipaddress.IPv6Network("fd00:5::/64")  # that router advertisements announce
_GATEWAYS: Final = {4: "10.0.2.2", 6: "fe80::2"}
_RESOLVER: Final = "10.0.2.3"

CLOSES_LOOPBACK: Final = "--map-host-loopback"
"""An option of newer releases. Those drop packets of the guest to 127.0.0.1; older ones send them to the node's."""

# Options that only newer releases have.
_DNS_HOST: Final = "--dns-host"
_HOSTNAME: Final = "--hostname"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNetwork:
    """What passt finds on the node: the ``families`` (4, 6) with a default route, and its name servers.

    ``upstream`` are those that a name server on the loopback interface asks, as far as they are known.
    """

    families: frozenset[int]
    name_servers: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()


def asked_options(help_text: str) -> frozenset[str]:
    """The long options that a ``--help`` lists. Debian 12's mixes it with errors about the system log."""
    words = (word.rstrip(",") for line in help_text.splitlines() for word in line.split()[:3])
    return frozenset(word for word in words if word.startswith("--"))


def guest_addresses(mac: str | None) -> dict[int, str]:
    """The guest's address by family: the one that DHCP gives, and the one that most guests make of their MAC address.

    passt of 2025 sends connections from public addresses to its own idea of the guest's address until the guest has sent a
    packet from another one. A guest that never asks for an address by DHCPv6 and only serves would not be reached.
    """
    if mac is None:
        return {4: "10.0.2.15", 6: str(_NETWORK[0x15])}
    octets = bytes.fromhex(mac.replace(":", ""))
    made = bytes((octets[0] ^ 0x02, *octets[1:3], 0xFF, 0xFE, *octets[3:]))  # RFC 4291, appendix A
    return {4: "10.0.2.15", 6: str(_NETWORK[int.from_bytes(made)])}


def passt_arguments(
    *,
    options: frozenset[str],
    node: NodeNetwork,
    forwards: Iterable[Forward],
    mtu: int | None,
    hostname: str,
    mac: str | None,
) -> tuple[str, ...]:
    """The arguments, with ``{fd}`` for the connected socket. ``options`` are those that this passt has."""
    addresses = guest_addresses(mac)
    words = ["--foreground", "--quiet"]
    if len(node.families) == 1:
        words.append(f"-{min(node.families)}")
    for family in sorted(node.families):
        words += ["-a", addresses[family], *(["-n", "24"] if family == 4 else []), "-g", _GATEWAYS[family]]
    words += _closed(options, forwards := list(forwards))
    words += _dns(options, node)
    if mtu is not None:
        words += ["--mtu", str(mtu)]
    if _HOSTNAME in options:
        words += [_HOSTNAME, hostname]
    for forward in forwards:
        at = "" if forward.address is None else f"{forward.address}/"
        words += ["-u" if forward.protocol == "udp" else "-t", f"{at}{forward.port}:{forward.guest_port}"]
    return (*words, "--fd", "{fd}")


def _closed(options: frozenset[str], forwards: list[Forward]) -> list[str]:
    """The options without which the guest reaches the node's loopback interface at the address of its gateway.

    With it, the release of 2023 sends no answer of the guest to a datagram that came from the loopback interface: the guest
    answers the gateway. The option alone protects nothing there: the guest also reaches that interface at 127.0.0.1, which
    only rules or a namespace prevent.
    """
    if CLOSES_LOOPBACK in options:
        return [CLOSES_LOOPBACK, "none"]
    return [] if any(one.protocol == "udp" and _local(one) for one in forwards) else ["--no-map-gw"]


def _local(forward: Forward) -> bool:
    """Whether programs of the node use the port at a loopback address."""
    return forward.address is None or _is_loopback(forward.address)


def dns_note(options: frozenset[str], node: NodeNetwork) -> str | None:
    """What an operator has to know about the guest's name server, or None."""
    if _DNS_HOST in options or not _only_loopback(node) or any(_upstream(node)):
        return None
    return (
        f"the guest gets no name server by DHCP, because the node's name server is at {node.name_servers[0]}; "
        f"inside the guest, use {_RESOLVER}"
    )


def _dns(options: frozenset[str], node: NodeNetwork) -> list[str]:
    """The options for name servers: without any, those in /etc/resolv.conf are announced, but none on the loopback."""
    if 4 not in node.families or not node.name_servers:
        return []
    if not _only_loopback(node):
        return []
    # The release of 2023 lets every answer of a server that it forwards to come from the forwarder. A guest that asked that
    # server itself, because it is announced, takes no such answer. So a server is either announced or forwarded to.
    if known := list(_upstream(node)):
        return [word for server in known for word in ("-D", server)]
    # Releases without the option replace the resolver by what is announced: the forwarder would ask itself.
    forward = ["--dns-forward", _RESOLVER]
    return ["-D", _RESOLVER, *forward, _DNS_HOST, node.name_servers[0]] if _DNS_HOST in options else forward


def _only_loopback(node: NodeNetwork) -> bool:
    return bool(node.name_servers) and all(map(_is_loopback, node.name_servers))


def _upstream(node: NodeNetwork) -> Iterator[str]:
    for server in node.upstream:
        if not _is_loopback(server) and ipaddress.ip_address(server).version in node.families:
            yield server


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
