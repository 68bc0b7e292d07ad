"""Two Linux guests by macvtap on an interface, in a network namespace of the test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT, empty_network
from linux_guest import guest_params, linux_guests

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900), NEEDS_ROOT]

PING = ("busybox", "ping")


def test_two_guests_reach_each_other_and_the_network_and_not_the_node(node: hvcore.Node, tmp_path: Path) -> None:
    """``up0`` is the node's interface, ``wire0`` another machine at its other end."""
    params = guest_params(tmp_path, "virtio_pci", "virtio_net")

    def linux(number: int) -> hvcore.Instance:
        nics = (hvcore.Nic(mode="macvtap", link="up0", mtu=1400, bandwidth_to_guest=10**8, bandwidth_from_guest=10**8),)
        return hvcore.Instance(name=f"web{number}", driver="kvm", memory_mib=96, nics=nics, params=params)

    with empty_network() as net:
        net.ip("link", "add", "up0", "type", "veth", "peer", "name", "wire0")
        for name, address in (("up0", "10.9.0.254"), ("wire0", "10.9.0.253")):
            net.ip("link", "set", name, "up")
            net.ip("address", "add", f"{address}/24", "dev", name)
        with linux_guests(node, linux(1), linux(2)) as guests:
            for number, guest in enumerate(guests, 1):
                guest.run(f"ip address add 10.9.0.{number}/24 dev eth0 && ip link set eth0 up")
            first, _ = guests
            assert "mtu 1400" in first.run("ip link show eth0")
            assert "2 packets received" in first.run("ping -c 2 -w 30 10.9.0.2")
            answers = subprocess.run(
                [*PING, "-c", "1", "-w", "3", "-I", "up0", "10.9.0.1"], capture_output=True, text=True, check=False
            )
            assert answers.returncode != 0, answers.stdout
            # From the other machine the guest is reached: its ARP comes out of the interface.
            net.ip("address", "del", "10.9.0.254/24", "dev", "up0")
            subprocess.run([*PING, "-c", "2", "-w", "30", "-I", "wire0", "10.9.0.1"], check=True, capture_output=True)
        for number in (1, 2):
            node.stop(f"web{number}", force=True)
        assert net.links() == {"up0", "wire0"}
