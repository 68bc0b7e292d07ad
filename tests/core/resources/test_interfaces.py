"""The interfaces of instances, in a network namespace of the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network

from hvcore.host.network.links import Counters
from hvcore.model.observation import Interface
from hvcore.operations.inspection.interfaces import NodeInterfaces
from hvcore.plugin import BridgePort, Job, Tap

pytestmark = NEEDS_ROOT

MAC = "aa:00:00:4b:c1:01"
TAP = Tap(key="nic1.tap", given_by="nics[1].mode", mac=MAC, queues=1)
PORT = BridgePort(key="nic1.port", given_by="nics[1].link", link=TAP, bridge="br0")


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        yield network


def test_a_tap_is_shown_with_its_bridge_and_the_addresses_at_its_mac(net: Network, at_work: Callable[..., Job]) -> None:
    net.bridge()
    job = at_work()
    name = job.acquire(PORT)[TAP].name
    for mac, address in ((MAC, "192.0.2.7"), ("aa:00:00:4b:c1:02", "192.0.2.8"), (MAC, "2001:db8::7")):
        net.ip("neighbour", "add", address, "lladdr", mac, "dev", "br0")
    macs = ("aa:00:00:4b:c1:09", MAC.upper())
    (found,) = NodeInterfaces().of(job.record, macs)
    assert found == Interface(nic=1, name=name, port_of="br0", seen=("192.0.2.7", "2001:db8::7"))
    net.ip("link", "set", name, "nomaster")
    assert next(NodeInterfaces().of(job.record, macs)).port_of is None
    job.held.close()
    assert list(NodeInterfaces().of(job.record, macs)) == []


def test_a_link_of_another_owner_is_not_shown(net: Network, at_work: Callable[..., Job]) -> None:
    net.bridge()
    job = at_work()
    name = job.acquire(PORT)[TAP].name
    net.ip("link", "set", name, "alias", "of somebody else")
    assert list(NodeInterfaces().of(job.record, ("", MAC))) == []


def test_what_an_instance_writes_to_its_tap_it_has_sent(net: Network, at_work: Callable[..., Job]) -> None:
    net.bridge()
    job = at_work()
    tap = job.acquire(PORT)[TAP]
    frame = bytes.fromhex("ff" * 6) + bytes.fromhex(MAC.replace(":", "")) + b"\x88\xb5" + bytes(46)
    (before,) = NodeInterfaces().counters(job.record, ("", MAC))
    for _ in range(3):
        os.write(int(tap.fds[0]), bytes(10) + frame)  # a virtio-net header comes first
    (after,) = NodeInterfaces().counters(job.record, ("", MAC))
    assert (after.nic, after.interface) == (1, tap.name)
    assert after.sent_packets - before.sent_packets == 3
    assert after.sent_bytes - before.sent_bytes == 3 * len(frame)
    net.ip("link", "set", tap.name, "alias", "of somebody else")
    assert list(NodeInterfaces().counters(job.record, ("", MAC))) == []


def test_the_other_end_of_a_link_has_sent_what_the_link_received() -> None:
    ours = Counters(received_packets=1, received_bytes=2, sent_packets=3, sent_bytes=4)
    assert ours.from_other_end() == Counters(received_packets=3, received_bytes=4, sent_packets=1, sent_bytes=2)
