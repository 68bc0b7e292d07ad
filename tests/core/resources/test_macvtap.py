"""Macvtap interfaces in a network namespace of the test, on one end of a veth pair."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network

from hvcore.host.network import macvtap_device
from hvcore.host.network.link_names import link_name
from hvcore.host.network.links import add_macvtap, knows_kind, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.plugin import Job, Macvtap, OperationError, Site
from hvcore.resources.macvtap import MacvtapKind

AtWork = Callable[..., Job]
Sites = Callable[..., Site]
MAC = "aa:00:00:4b:c1:01"
TAP = Macvtap(key="nic0.tap", given_by="nics[0].link", mac=MAC, lower="up0")
KIND = 0x88B5  # an Ethernet type for experiments

pytestmark = NEEDS_ROOT


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.ip("link", "add", "up0", "mtu", "1480", "type", "veth", "peer", "name", "wire0", "mtu", "1480")
        for name in ("up0", "wire0"):
            network.ip("link", "set", name, "up")
        yield network


def problems(tap: Macvtap, site: Site) -> list[str]:
    return [str(problem) for problem in MacvtapKind().verify(tap, site)]


def test_it_has_its_name_its_mark_the_mac_of_the_guest_and_the_mtu_below(
    net: Network, at_work: AtWork, site: Sites
) -> None:
    assert problems(TAP, site()) == []
    job = at_work()
    handle = job.acquire(TAP)[TAP]
    about = net.about(handle.name)
    assert handle.name == link_name(job.host.run_dir, "web1", "nic0.tap")
    assert f"link/ether {MAC}" in about
    assert "macvtap mode bridge" in about
    assert "mtu 1480" in about
    assert ",UP" in about
    assert f"alias hvcore {os.path.realpath(job.host.run_dir)} web1 nic0.tap" in about
    MacvtapKind().prove(TAP, site(), job)
    job.held.close()
    assert handle.name in net.links()  # it stays without its descriptors
    for _ in range(2):
        job.release()
        assert net.links() == {"up0", "wire0"}


def test_packets_go_both_ways_and_between_two_on_one_interface(net: Network, at_work: AtWork) -> None:
    first, second = replace(TAP, vnet_hdr=False), replace(TAP, key="nic1.tap", mac=f"{MAC[:-1]}2", vnet_hdr=False)
    handles = at_work().acquire(first, second)
    one, two = (int(handles[tap].fds[0]) for tap in (first, second))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(KIND)) as wire:
        wire.bind(("wire0", KIND))
        wire.settimeout(10.0)
        os.write(one, packet(MAC, b"\xff" * 6))
        assert wire.recv(2048)[:12] == packet(MAC, b"\xff" * 6)[:12]
        assert received(two)[6:12] == bytes.fromhex(MAC.replace(":", ""))
        wire.send(packet("02:00:00:00:00:01", bytes.fromhex(MAC.replace(":", ""))))
        assert received(one)[6:12] == bytes.fromhex("020000000001")


def packet(source: str, to: bytes) -> bytes:
    return to + bytes.fromhex(source.replace(":", "")) + KIND.to_bytes(2, "big") + bytes(46)


def received(fd: int) -> bytes:
    """The next packet of ours."""
    while select.select([fd], [], [], 10.0)[0]:
        data = os.read(fd, 2048)
        if data[12:14] == KIND.to_bytes(2, "big"):
            return data
    pytest.fail("no packet")


def test_queues_and_the_mtu_of_the_nic(net: Network, at_work: AtWork) -> None:
    handle = at_work().acquire(tap := replace(TAP, queues=3, mtu=1400))[tap]
    assert len(set(handle.fds)) == 3
    assert "mtu 1400" in net.about(handle.name)


@pytest.mark.parametrize(
    ("words", "wanted", "told"),
    [
        (
            "link del up0",
            {},
            "nics[0].link: does not exist on this node, got 'up0'; name an interface of the node: ip link",
        ),
        ("link set up0 down", {}, "nics[0].link: is down, got 'up0'; set it up: ip link set up0 up"),
        (
            "link set up0 master br0",
            {},
            "nics[0].link: belongs to br0, which takes its packets, got 'up0'; set mode = 'bridged' and link = 'br0'",
        ),
        ("link show", {"lower": "lo"}, "nics[0].link: is not an Ethernet interface, got 'lo'; name another interface"),
        (
            "link set up0 address aa:00:00:4b:c1:01",
            {},
            "nics[0].mac: is the address of up0 itself, got 'aa:00:00:4b:c1:01'; give the NIC another, or unset it",
        ),
        (
            "link show",
            {"mtu": 1481},
            "nics[0].mtu: is above the MTU of up0, which is 1480, got 1481; set it to at most 1480",
        ),
    ],
)
def test_an_interface_that_cannot_carry_it_is_refused_before_and_at_the_start(
    net: Network, at_work: AtWork, site: Sites, words: str, wanted: dict[str, Any], told: str
) -> None:
    net.bridge()
    net.ip(*words.split())
    tap = replace(TAP, **wanted)
    assert problems(tap, site()) == [told]
    job = at_work()
    with pytest.raises(OperationError) as caught:
        job.acquire(tap)
    assert str(caught.value) == f"web1: {told}"
    job.release()
    assert link_name(job.host.run_dir, "web1", TAP.key) not in net.links()


def test_a_mac_of_another_interface_there_is_refused_with_what_to_do(net: Network, at_work: AtWork) -> None:
    net.ip("link", "add", "other", "link", "up0", "address", MAC, "type", "macvlan", "mode", "bridge")
    net.ip("link", "set", "other", "up")
    job = at_work()
    with pytest.raises(OperationError, match=f"another interface on up0 has the address {MAC}: change mac"):
        job.acquire(TAP)
    job.held.close()
    job.release()
    assert net.links() == {"up0", "wire0", "other"}


def test_a_link_of_that_name_is_not_taken_over(net: Network, at_work: AtWork, site: Sites) -> None:
    job = at_work()
    name = link_name(job.host.run_dir, "web1", "nic0.tap")
    net.ip("link", "add", name, "type", "veth")
    (told,) = problems(TAP, site())
    assert f"needs the interface name {name}, and another interface has it" in told
    with pytest.raises(
        OperationError, match=rf"cannot make macvtap {name} on up0, got .*; see 'ip -d link show {name}'"
    ):
        job.acquire(TAP)
    job.release()
    assert name in net.links()


def test_one_that_has_no_mark_yet_is_removed_by_its_kind_and_address(
    net: Network, at_work: AtWork, site: Sites
) -> None:
    """A start that is killed between the two requests leaves it so."""
    job = at_work()
    job.acquire(TAP)
    job.held.close()
    name = job.record.ledger[0].data["name"]
    for mac, left in (("aa:00:00:4b:c1:09", {name}), (MAC, set())):
        net.ip("link", "del", name)
        with Netlink() as netlink:
            add_macvtap(netlink, name, lower=the_link(netlink, "up0").index, address=mac)
        MacvtapKind().release(job.record.ledger[0], job)
        assert net.links() - {"up0", "wire0"} == left
        if not left:
            return


def test_what_another_program_changed_is_seen_after_the_launch(net: Network, at_work: AtWork, site: Sites) -> None:
    job = at_work()
    name = job.acquire(TAP)[TAP].name
    net.ip("link", "set", name, "down")
    with pytest.raises(OperationError, match=f"macvtap {name} is not up on 'up0'; another program changed it"):
        MacvtapKind().prove(TAP, site(), job)
    job.held.close()
    job.release()


def test_a_failure_between_the_queues_closes_what_was_opened(net: Network, at_work: AtWork) -> None:
    before = os.listdir("/proc/self/fd")
    job = at_work()
    with pytest.raises(OperationError, match="cannot make macvtap"):
        job.acquire(replace(TAP, queues=300))  # the kernel has at most 256
    assert os.listdir("/proc/self/fd") == before
    job.release()
    assert net.links() == {"up0", "wire0"}


def test_a_process_that_may_not_make_nodes_is_refused_with_the_kernels_words(
    net: Network, site: Sites, monkeypatch: pytest.MonkeyPatch, in_child: Callable[..., int], tmp_path: Path
) -> None:
    def without_mknod() -> None:
        import ctypes

        assert ctypes.CDLL(None).prctl(24, 27, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_MKNOD
        argv = ["python3", "-c", SCRIPT]
        os.execvpe("python3", argv, {**os.environ, "PYTHONPATH": str(Path(macvtap_device.__file__).parents[3])})

    status = in_child(without_mknod)
    assert os.waitstatus_to_exitcode(status) == 0 if status != signal.SIGKILL else False
    assert macvtap_device.why_no_device_nodes() is None


SCRIPT = """
from hvcore.host.network.macvtap_device import why_no_device_nodes
raise SystemExit(why_no_device_nodes() != "Operation not permitted")
"""


def test_kinds_of_links_that_the_kernel_has(net: Network) -> None:
    with Netlink() as netlink:
        assert knows_kind(netlink, "macvtap")
        assert not knows_kind(netlink, "no-such-kind")
    assert net.links() == {"up0", "wire0"}


def test_a_plan_says_that_the_node_does_not_reach_the_guest(site: Sites) -> None:
    made, note = MacvtapKind().describe(TAP, site())
    name = link_name(site().host.run_dir, "web1", "nic0.tap")
    assert (made.kind, made.what) == ("tap", f"make macvtap {name} on up0 for the NIC {MAC}")
    assert (note.kind, note.what) == (
        "note",
        "the node and the guest cannot reach each other at up0: macvtap sends packets out of it only",
    )
    assert MacvtapKind().placeholder(TAP, site()).fds == ("{fd:tap-nic0}",)
