"""Two Linux guests on a bridge of Open vSwitch, in a network namespace of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from empty_network import empty_network
from linux_guest import guest_params, linux_guests
from open_vswitch import NEEDS_OVS, OpenVSwitch, open_vswitch

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(900), NEEDS_OVS]

MIB = 8


@pytest.fixture
def ovs(tmp_path: Path) -> Iterator[OpenVSwitch]:
    with empty_network(), open_vswitch(tmp_path / "ovs") as switch:
        yield switch


def test_two_guests_of_one_vlan_reach_each_other_and_no_other_vlan(
    ovs: OpenVSwitch, node: hvcore.Node, tmp_path: Path
) -> None:
    params = guest_params(tmp_path, "virtio_pci", "virtio_net") | {"ovs_socket": ovs.socket}

    def linux(number: int, vlan: str) -> hvcore.Instance:
        nics = (hvcore.Nic(mode="openvswitch", link="ovs0", vlan=vlan, mtu=1400),)
        return hvcore.Instance(name=f"web{number}", driver="kvm", memory_mib=160, nics=nics, params=params)

    with linux_guests(node, linux(1, "10"), linux(2, "10"), linux(3, "20")) as guests:
        for number, guest in enumerate(guests, 1):
            guest.run(f"ip address add 10.9.0.{number}/24 dev eth0 && ip link set eth0 up")
        first, second, third = guests
        assert "mtu 1400" in first.run("ip link show eth0")
        assert "2 packets received" in first.run("ping -c 2 -w 30 10.9.0.2")
        assert "0 packets received" in third.run("ping -c 2 -w 4 10.9.0.1", code=1)
        # TCP: the bridge does not complete checksums.
        first.run(f"dd if=/dev/urandom of=/data bs=1M count={MIB}", deadline_s=200)
        wanted = first.run("md5sum </data", deadline_s=200)
        first.run("(nc -l -p 5000 </data >/dev/null &)")
        assert second.run("nc 10.9.0.1 5000 | md5sum", deadline_s=400) == wanted
    for number in (1, 2, 3):
        node.stop(f"web{number}", force=True)
    assert ovs.ports() == set()
