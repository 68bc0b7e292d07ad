"""The arguments of passt, for both releases of Debian, and what they mean for the guest's name server."""

from __future__ import annotations

from typing import Any

import pytest

from hvcore.model.network.passt_arguments import NodeNetwork, asked_options, dns_note, guest_addresses, passt_arguments
from hvcore.params.network_types import forward_of

OLD = frozenset(("--foreground", "--quiet", "--fd", "--no-map-gw", "--dns-forward"))
NEW = OLD | {"--map-host-loopback", "--dns-host", "--hostname"}
BOTH = frozenset((4, 6))
MAC = "aa:00:00:4b:c1:01"
IPV6 = "fd00:5::a800:ff:fe4b:c101"


def words(
    options: frozenset[str] = OLD, families: frozenset[int] = BOTH, *, forwards: Any = (), mtu: Any = None, **node: Any
) -> str:
    found = passt_arguments(
        options=options,
        node=NodeNetwork(families=families, **node),
        forwards=[forward_of(text) for text in forwards],
        mtu=mtu,
        hostname="web1",
        mac=MAC,
    )
    return " ".join(found)


def test_the_release_of_2023() -> None:
    assert words() == (
        f"--foreground --quiet -a 10.0.2.15 -n 24 -g 10.0.2.2 -a {IPV6} -g fe80::2 --no-map-gw --fd {{fd}}"
    )


def test_the_release_of_2025_keeps_the_loopback_of_the_node_by_another_option() -> None:
    assert words(NEW) == (
        f"--foreground --quiet -a 10.0.2.15 -n 24 -g 10.0.2.2 -a {IPV6} -g fe80::2 --map-host-loopback none "
        "--hostname web1 --fd {fd}"
    )


@pytest.mark.parametrize(
    ("family", "expected"), [(4, "-4 -a 10.0.2.15 -n 24 -g 10.0.2.2"), (6, f"-6 -a {IPV6} -g fe80::2")]
)
def test_a_node_with_one_family_gives_the_guest_that_one(family: int, expected: str) -> None:
    assert words(families=frozenset((family,))) == f"--foreground --quiet {expected} --no-map-gw --fd {{fd}}"


def test_forwards_are_one_option_each_and_ipv6_has_no_brackets() -> None:
    given = ("2222:22", "127.0.0.1:8080:80/tcp", "[::1]:5353:53/udp")
    assert words(forwards=given).endswith("-t 2222:22 -t 127.0.0.1/8080:80 -u ::1/5353:53 --fd {fd}")


def test_the_mtu_is_announced() -> None:
    assert "--mtu 1400" in words(mtu=1400)


@pytest.mark.parametrize(
    ("servers", "upstream", "old", "new"),
    [
        ((), (), "", ""),
        (("192.0.2.53", "127.0.0.1"), (), "", ""),
        (
            ("127.0.0.53",),
            ("192.0.2.53", "2001:db8::53"),
            "-D 192.0.2.53 -D 2001:db8::53",
            "-D 192.0.2.53 -D 2001:db8::53",
        ),
        (("::1",), ("127.0.0.2",), "--dns-forward 10.0.2.3", "-D 10.0.2.3 --dns-forward 10.0.2.3 --dns-host ::1"),
    ],
    ids=["none", "outside", "loopback-with-upstream", "loopback-alone"],
)
def test_the_name_server(servers: tuple[str, ...], upstream: tuple[str, ...], old: str, new: str) -> None:
    for options, expected in ((OLD, old), (NEW, new)):
        given = words(options, name_servers=servers, upstream=upstream)
        before = "none" if options is NEW else "--no-map-gw"
        assert given == words(options).replace(before, f"{before} {expected}".rstrip())


def test_only_a_guest_that_gets_no_name_server_has_a_note() -> None:
    alone = NodeNetwork(families=BOTH, name_servers=("127.0.0.1",))
    assert dns_note(OLD, alone) == (
        "the guest gets no name server by DHCP, because the node's name server is at 127.0.0.1; inside the guest, use 10.0.2.3"
    )
    assert dns_note(NEW, alone) is None
    for servers, upstream in (((), ()), (("192.0.2.53",), ()), (("127.0.0.53",), ("192.0.2.53",))):
        assert dns_note(OLD, NodeNetwork(families=BOTH, name_servers=servers, upstream=upstream)) is None


def test_options_are_found_between_errors_about_the_system_log() -> None:
    text = (
        "Usage: passt [OPTION]...\nFailed to send 7 bytes to syslog\n\n  -d, --debug\t\tBe verbose\n"
        "Failed to send 55 bytes to syslog\n      --trace\t\tBe extra verbose, implies --debug\n"
        "  --runas UID|UID:GID \tRun as given UID\n    default: from --outbound-if4 and --outbound-if6, if any\n"
    )
    assert {"--debug", "--trace", "--runas"} <= asked_options(text)
    assert "implies" not in asked_options(text)


@pytest.mark.parametrize(
    ("given", "closed"),
    [("0:53/udp", False), ("127.0.0.1:0:53/udp", False), ("[::1]:0:53/udp", False), ("198.51.100.2:0:53/udp", True)],
)
def test_answers_to_datagrams_of_the_node_need_the_gateway(given: str, *, closed: bool) -> None:
    """The release of 2023 sends such an answer to nobody with the option: the guest sends it to its gateway."""
    assert ("--no-map-gw" in words(forwards=[given])) is closed
    assert "--map-host-loopback none" in words(NEW, forwards=[given])


@pytest.mark.parametrize(
    ("mac", "address"),
    [
        (MAC, IPV6),
        ("52:54:00:22:17:6e", "fd00:5::5054:ff:fe22:176e"),
        ("00:00:00:00:00:01", "fd00:5::200:ff:fe00:1"),
        ("FE:FF:FF:FF:FF:FF", "fd00:5::fcff:ffff:feff:ffff"),
        (None, "fd00:5::15"),  # of a record of an older release
    ],
)
def test_the_guest_has_the_address_that_it_makes_of_its_mac(mac: str | None, address: str) -> None:
    assert guest_addresses(mac) == {4: "10.0.2.15", 6: address}
