"""Guests to which the node routes addresses, in a network namespace of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from linux_guest import LinuxGuest, guest_params, linux_guests

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.timeout(900), NEEDS_ROOT]


@pytest.fixture
def net() -> Iterator[Network]:
    """The node has addresses of its own, which are on none of the guests' links."""
    with empty_network() as network:
        network.forward()
        network.ip("addr", "add", "192.0.2.1/32", "dev", "lo")
        network.ip("addr", "add", "fd00::1/128", "dev", "lo")
        yield network


def linux(folder: Path, number: int) -> hvcore.Instance:
    nics = (hvcore.Nic(mode="routed", link="100", ip=(f"192.0.2.{6 + number}", f"fd00::{6 + number}")),)
    params = guest_params(folder, "virtio_pci", "virtio_net", "ipv6")
    return hvcore.Instance(name=f"web{number}", driver="kvm", memory_mib=128, nics=nics, params=params)


def configure(guest: LinuxGuest, number: int) -> None:
    """As the how-to page says."""
    guest.run("ip link set eth0 up")
    guest.run(f"ip address add 192.0.2.{6 + number}/32 dev eth0")
    guest.run("ip route add 192.0.2.1 dev eth0 && ip route add default via 192.0.2.1")
    guest.run("echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad")
    guest.run(f"ip -6 address add fd00::{6 + number}/128 dev eth0")
    guest.run("ip -6 route add default via fe80::1 dev eth0")


def test_a_routed_guest_is_reached_from_the_node(net: Network, node: hvcore.Node, tmp_path: Path) -> None:
    with linux_guests(node, linux(tmp_path, 1)) as (guest,):
        configure(guest, 1)
        for address, of_node in (("192.0.2.7", "192.0.2.1"), ("fd00::7", "fd00::1")):
            assert "2 packets received" in guest.run(f"ping -c 2 -W 20 {of_node}")
            net.run("busybox", "ping", "-c", "2", "-W", "20", address)
        (found,) = node.info("web1").interfaces
        assert "192.0.2.7" in found.seen
    node.stop("web1", force=True)
    assert (net.links(), net.rules()) == (set(), [])


@pytest.mark.slow
def test_two_routed_guests_reach_each_other_and_the_end_of_one_leaves_the_other(
    net: Network, node: hvcore.Node, tmp_path: Path
) -> None:
    with linux_guests(node, linux(tmp_path, 1), linux(tmp_path, 2)) as guests:
        for number, guest in enumerate(guests, 1):
            configure(guest, number)
        for address in ("192.0.2.8", "fd00::8"):
            assert "2 packets received" in guests[0].run(f"ping -c 2 -W 20 {address}")
        # Another source is dropped by the node.
        guests[0].run("ip address add 198.51.100.9/32 dev eth0")
        guests[0].run("ping -c 1 -W 3 -I 198.51.100.9 192.0.2.8", code=1)
        node.stop("web2", force=True)
        for address in ("192.0.2.7", "fd00::7"):
            net.run("busybox", "ping", "-c", "2", "-W", "20", address)
        assert not any("192.0.2.8" in rule or "fd00::8" in rule for rule in net.rules())
