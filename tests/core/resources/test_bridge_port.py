"""Ports of a bridge in a network namespace of the test."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network

from hvcore.host.network.links import LinkFacts, the_link
from hvcore.host.network.netlink import Netlink, attribute, nested
from hvcore.plugin import BridgePort, Job, OperationError, Site, Tap
from hvcore.resources import bridge_port
from hvcore.resources.bridge_port import BridgePortKind

AtWork = Callable[..., Job]
Sites = Callable[..., Site]
TAP = Tap(key="nic0.tap", given_by="nics[0].mode", mac="aa:00:00:4b:c1:01", queues=1)
PORT = BridgePort(key="nic0.port", given_by="nics[0].link", link=TAP, bridge="br0")

pytestmark = NEEDS_ROOT


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        yield network


def problems(port: BridgePort, site: Site) -> list[str]:
    return [str(problem) for problem in BridgePortKind().verify(port, site)]


def test_the_link_is_a_port_with_the_mtu_of_the_bridge_and_up(net: Network, at_work: AtWork, site: Sites) -> None:
    net.bridge("br0", "mtu", "1480")
    assert problems(PORT, site()) == []
    job = at_work()
    name = job.acquire(PORT)[TAP].name
    about = net.about(name)
    assert "master br0" in about
    assert "mtu 1480" in about
    assert ",UP" in about or "<UP" in about
    assert [entry.kind for entry in job.record.ledger] == ["tap"]
    BridgePortKind().prove(PORT, site(), job)
    job.held.close()
    assert net.links() == {"br0"}


def test_the_mtu_of_the_nic_counts_more(net: Network, at_work: AtWork) -> None:
    net.bridge()
    name = at_work().acquire(replace(PORT, mtu=1400))[TAP].name
    assert "mtu 1400" in net.about(name)


def test_the_address_of_the_bridge_stays(net: Network, at_work: AtWork) -> None:
    net.bridge("br0", "address", "0a:00:00:00:00:01")
    net.ip("link", "add", "up0", "address", "0a:00:00:00:00:02", "type", "veth", "peer", "name", "up1")
    net.ip("link", "set", "up0", "master", "br0")
    before = net.about("br0").split("link/ether")[1].split()[0]
    at_work().acquire(PORT)
    assert net.about("br0").split("link/ether")[1].split()[0] == before


def test_a_bridge_that_does_not_exist_is_a_problem_before_and_at_the_start(
    net: Network, at_work: AtWork, site: Sites
) -> None:
    message = (
        "nics[0].link: does not exist on this node, got 'br0'; create it: ip link add br0 type bridge; or name another"
    )
    assert problems(PORT, site()) == [message]
    job = at_work()
    with pytest.raises(OperationError) as caught:
        job.acquire(PORT)
    assert str(caught.value) == f"web1: {message}"
    job.held.close()
    assert net.links() == set()


def test_what_is_not_a_bridge_is_refused(net: Network, site: Sites) -> None:
    net.ip("link", "add", "br0", "type", "veth", "peer", "name", "other")
    assert problems(PORT, site()) == ["nics[0].link: is not a bridge, got 'br0'; create the bridge, or name another"]


@pytest.mark.parametrize("vlan", ["10", "trunk:10,20-30", ".10:20"])
def test_a_vlan_needs_a_bridge_that_filters(net: Network, site: Sites, vlan: str) -> None:
    net.bridge()
    (message,) = problems(replace(PORT, vlan=vlan), site())
    assert message.startswith("nics[0].vlan: needs a bridge that filters VLANs, ")
    if net.has_vlans():
        assert message.endswith(f"got '{vlan}'; set it: ip link set br0 type bridge vlan_filtering 1")
    else:
        assert "which the kernel of this node cannot (br0)" in message
        assert message.endswith("CONFIG_BRIDGE_VLAN_FILTERING, or mode 'openvswitch'")


@pytest.mark.parametrize(("default", "what"), [(None, "kernel of this node cannot"), (1, "and br0 does not")])
def test_the_reason_says_whether_the_kernel_or_the_bridge_lacks_it(default: int | None, what: str) -> None:
    facts = LinkFacts(
        index=2, name="br0", kind="bridge", up=True, mtu=1500, address="", master=0, alias="", default_vlan=default
    )
    assert what in str(bridge_port._problem(replace(PORT, vlan="10"), facts))
    assert bridge_port._problem(replace(PORT, vlan="10"), replace(facts, vlan_filtering=True)) is None


def test_a_port_that_was_taken_away_is_seen_after_the_launch(net: Network, at_work: AtWork, site: Sites) -> None:
    net.bridge()
    job = at_work()
    name = job.acquire(PORT)[TAP].name
    net.ip("link", "set", name, "nomaster")
    with pytest.raises(OperationError, match=f"web1: {name} is not a port of 'br0'; another program changed it"):
        BridgePortKind().prove(PORT, site(), job)


def test_steps_of_a_plan(site: Sites) -> None:
    (step,) = BridgePortKind().describe(replace(PORT, vlan="10"), site())
    assert (step.kind, step.what) == ("connect", "nic0.tap to bridge 'br0', VLAN 10")


def test_a_port_moves_to_another_bridge_with_its_mtu(net: Network, at_work: AtWork, site: Sites) -> None:
    net.bridge()
    net.bridge("br1", "mtu", "1400")
    job, moved = at_work(), replace(PORT, bridge="br1")
    name = job.acquire(PORT)[TAP].name
    job.held.forget(PORT.key)
    job.acquire(moved)
    assert "master br1" in net.about(name)
    assert "mtu 1400" in net.about(name)
    BridgePortKind().prove(moved, site(), job)
    with pytest.raises(OperationError, match="is not a port of 'br0'"):
        BridgePortKind().prove(PORT, site(), job)


@pytest.mark.parametrize(
    ("vlan", "entries"),
    [
        ("10", [(6, 10)]),
        ("trunk:20,30-32", [(0, 20), (8, 30), (16, 32)]),
        (".10:20", [(6, 10), (0, 20)]),
    ],
)
def test_the_vlans_of_a_port_are_read_back(
    net: Network, at_work: AtWork, site: Sites, monkeypatch: pytest.MonkeyPatch, vlan: str, entries: list[Any]
) -> None:
    """By an answer as kernels with VLAN filters give it (linux/if_bridge.h): flags and number of each entry."""
    net.bridge()
    job = at_work()
    name = job.acquire(PORT)[TAP].name
    with Netlink() as netlink:
        index = the_link(netlink, name).index
    spec = nested(26, *(attribute(2, struct.pack("=HH", *entry)) for entry in entries))
    answer = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index, 0, 0) + spec
    other = struct.pack("=BxHiII", socket.AF_BRIDGE, 0, index + 1, 0, 0) + spec
    ask = Netlink.ask

    def asked(self: Netlink, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        return [other, answer, other] if body[0] == socket.AF_BRIDGE else ask(self, kind, body, flags)

    monkeypatch.setattr(Netlink, "ask", asked)
    BridgePortKind().prove(replace(PORT, vlan=vlan), site(), job)
    with pytest.raises(OperationError, match=f"{name} is not in VLAN 11 of 'br0'; another program changed it"):
        BridgePortKind().prove(replace(PORT, vlan="11"), site(), job)
