"""The name servers that a real guest gets by DHCP from passt answer it."""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from linux_guest import LinuxGuest, guest_params, linux_guests
from node_and_internet import node_and_internet, run
from transfers import configure

import hvcore
from hvcore.host.network.installed_passt import node_network

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

_FORWARDER = "10.0.2.3"  # where no server can be announced


@pytest.fixture
def guest(node: hvcore.Node, tmp_path: Path) -> Iterator[LinuxGuest]:
    """A guest that may reach only the internet, and the node's name servers, which are there."""
    if shutil.which("passt") is None or shutil.which("nft") is None:
        pytest.skip("no passt or nft on this machine: ./dev setup")
    params = {**guest_params(tmp_path, "virtio_pci", "virtio_net"), "user_network": "passt"}
    nic = hvcore.Nic(egress="internet")
    instance = hvcore.Instance(name="web1", driver="kvm", memory_mib=192, nics=(nic,), params=params)
    with node_and_internet() as internet:
        for server in map(ipaddress.ip_address, node_network().name_servers):
            if not server.is_loopback:
                run(f"ip addr add {server} dev hv-wire", ["nsenter", "-t", str(internet), "-n"])
        with linux_guests(node, instance) as (made,):
            configure(made, mtu=1500)
            made.run("printf '#!/bin/sh\\necho dns $dns end\\n' >/lease; chmod 755 /lease")
            yield made


def test_the_name_servers_that_dhcp_announces_answer(guest: LinuxGuest) -> None:
    lease = guest.run("udhcpc -i eth0 -f -n -q -t 20 -s /lease", deadline_s=120)
    servers = lease.rpartition("dns ")[2].partition(" end")[0].split()
    for server in servers or [_FORWARDER]:
        assert "NXDOMAIN" in guest.run(f"nslookup name.test {server}", code=None), server
