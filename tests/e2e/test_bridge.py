"""Two Linux guests on a bridge, in a network namespace of the test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from linux_guest import LinuxGuest, guest_params, linux_guests

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.timeout(600), NEEDS_ROOT]

MIB = 100


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.bridge()
        yield network


def linux(folder: Path, number: int, *, memory_mib: int = 96, **nic: Any) -> hvcore.Instance:
    nics = (hvcore.Nic(mode="bridged", link="br0", **nic),)
    params = guest_params(folder, "virtio_pci", "virtio_net")
    return hvcore.Instance(name=f"web{number}", driver="kvm", memory_mib=memory_mib, nics=nics, params=params)


@contextmanager
def two_guests(node: hvcore.Node, folder: Path, **more: Any) -> Iterator[tuple[LinuxGuest, ...]]:
    """Two guests that have the addresses 10.9.0.1 and 10.9.0.2."""
    with linux_guests(node, linux(folder, 1, **more), linux(folder, 2, **more)) as guests:
        for number, guest in enumerate(guests, 1):
            guest.run(f"ip address add 10.9.0.{number}/24 dev eth0 && ip link set eth0 up")
        yield guests


def test_two_guests_reach_each_other_and_the_node(net: Network, node: hvcore.Node, tmp_path: Path) -> None:
    net.ip("address", "add", "10.9.0.254/24", "dev", "br0")
    with two_guests(node, tmp_path, mtu=1400) as (first, _):
        assert "mtu 1400" in first.run("ip link show eth0")  # QEMU tells the guest
        assert "2 packets received" in first.run("ping -c 2 10.9.0.2")
        first.run("ping -c 1 -s 1372 10.9.0.254")


@pytest.mark.slow
def test_two_guests_move_100_mib_whole(net: Network, node: hvcore.Node, tmp_path: Path) -> None:
    with two_guests(node, tmp_path, memory_mib=384) as (first, second):
        first.run(f"dd if=/dev/urandom of=/data bs=1M count={MIB}", deadline_s=200)
        wanted = first.run("md5sum </data", deadline_s=200)
        first.run("(nc -l -p 5000 </data >/dev/null &)")
        assert second.run("nc 10.9.0.1 5000 | md5sum", deadline_s=400) == wanted
