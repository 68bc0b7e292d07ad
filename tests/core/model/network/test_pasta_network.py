"""The arguments of pasta, what passt finds in its namespace, and the rules there."""

from __future__ import annotations

from typing import Any

import pytest

from hvcore.model.network.passt_arguments import NodeNetwork
from hvcore.model.network.pasta_network import (
    inner_forwards,
    inner_network,
    namespace_rules,
    pasta_arguments,
    unlike_rules,
)
from hvcore.params.network_types import forward_of

BOTH = NodeNetwork(families=frozenset((4, 6)), name_servers=("198.51.100.53",))
STUB = NodeNetwork(families=frozenset((4,)), name_servers=("127.0.0.53",))
PASST = ("/usr/bin/passt", "--fd", "0")


def words(*forwards: str, node: NodeNetwork = BOTH, options: frozenset[str] = frozenset()) -> str:
    given = [forward_of(text) for text in forwards]
    return " ".join(pasta_arguments(options=options, node=node, forwards=given, command=PASST))


def test_nothing_is_forwarded_that_nobody_asked_for() -> None:
    assert words() == (
        "--foreground --quiet --config-net -a 192.0.2.2 -n 24 -g 192.0.2.1 -a 2001:db8:ffff::2 -g fe80::1 --no-map-gw "
        "-t none -T none -u none -U none -- /usr/bin/passt --fd 0"
    )


def test_each_port_leads_to_the_same_port_in_the_namespace() -> None:
    said = words("127.0.0.1:2222:22", "[::1]:8080:80", "5353:53/udp")
    assert "-t 127.0.0.1/2222:2222 -t ::1/8080:8080 -T none -u 5353:5353 -U none" in said


def test_a_low_port_leads_to_one_that_passt_may_listen_on() -> None:
    given = [forward_of("80:80"), forward_of("65535:443"), forward_of("53:53/udp")]
    inner = inner_forwards(given)
    assert [(one.address, one.port, one.guest_port) for one in inner] == [
        (None, 65534, 80),
        (None, 65535, 443),
        (None, 65533, 53),
    ]
    assert "-t 80:65534 -t 65535:65535 -T none -u 53:65533 -U none" in words("80:80", "65535:443", "53:53/udp")


def test_newer_releases_close_the_loopback_by_another_option() -> None:
    assert "--map-host-loopback none" in words(options=frozenset(("--map-host-loopback",)))


def test_a_name_server_on_the_loopback_is_asked_by_pasta() -> None:
    assert "-4 -a 192.0.2.2 -n 24 -g 192.0.2.1 --no-map-gw --dns-forward 192.0.2.3" in words(node=STUB)
    assert inner_network(STUB).upstream == ("192.0.2.3",)
    assert inner_network(BOTH) == BOTH
    rules = namespace_rules("internet", node=STUB, udp=(), addresses=())
    assert "resolvers4 { 0 . 192.0.2.3 }" in rules
    assert "127.0.0.53" not in rules
    assert "192.0.2.3" not in namespace_rules("none", node=STUB, udp=(), addresses=())


def test_the_addresses_of_the_node_are_refused_after_answers_and_name_servers() -> None:
    rules = namespace_rules("internet", node=BOTH, udp=(5353,), addresses=("203.0.113.7", "2001:db8::7", "127.0.0.1"))
    lines = rules.splitlines()
    assert "add element inet hvcore node4 { 127.0.0.1, 203.0.113.7 }" in lines
    assert "add element inet hvcore node6 { 2001:db8::7 }" in lines
    refused = lines.index("add rule inet hvcore to_internet ip daddr @node4 goto refuse")
    assert refused > lines.index("add rule inet hvcore to_internet jump answers")
    assert "add element inet hvcore udp_forwards { 5353 }" in lines


def listing(rules: str, policy: str, *, hooks: tuple[str, ...] = ("input", "output")) -> dict[str, Any]:
    """What nft would list."""
    chains = [line.split()[4] for line in rules.splitlines() if line.split()[1] == "rule"]
    return {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            *({"chain": {"name": name, "hook": name}} for name in hooks),
            {"map": {"name": "guests", "elem": [[0, {"goto": {"target": f"to_{policy}"}}]]}},
            *({"rule": {"chain": name, "expr": []}} for name in chains),
        ]
    }


def test_rules_that_are_read_back() -> None:
    rules = namespace_rules("internet", node=BOTH, udp=(), addresses=())
    right = listing(rules, "internet")
    assert unlike_rules(right, rules, policy="internet") is None
    assert unlike_rules(None, rules, policy="internet") == "the table inet hvcore is missing"
    assert unlike_rules(listing(rules, "all"), rules, policy="internet") == (
        "the table inet hvcore lacks the policy internet"
    )
    for wrong in (
        {"nftables": right["nftables"][:-1]},
        {"nftables": [*right["nftables"], {"rule": {"chain": "output"}}]},
        listing(rules, "internet", hooks=("input",)),
    ):
        assert unlike_rules(wrong, rules, policy="internet") == "the table inet hvcore has other rules"


@pytest.mark.parametrize("policy", ["none", "internet"])
def test_packets_within_the_namespace_are_accepted_first(policy: str) -> None:
    lines = namespace_rules(policy, node=BOTH, udp=(), addresses=()).splitlines()
    assert 'insert rule inet hvcore output oifname "lo" accept' in lines
