"""Guests on bridges of a network namespace of the test."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from connected import MACS, connected
from empty_network import NEEDS_ROOT, Network, empty_network
from open_vswitch import NEEDS_OVS, open_vswitch
from world import World

import hvcore
from hvcore import Nic
from hvcore.host.network.netlink import Netlink

pytestmark = [pytest.mark.live, NEEDS_ROOT]


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.bridge()
        yield network


def bridged(*macs: str, **more: object) -> tuple[Nic, ...]:
    return tuple(Nic(mode="bridged", link="br0", mac=mac, **more) for mac in macs)  # type: ignore[arg-type]


def test_a_guest_has_a_tap_for_each_nic_and_qemu_no_network(net: Network, world: World) -> None:
    world.start(**connected("bridged", world.root))
    taps = net.links() - {"br0"}
    assert len(taps) == 2
    assert all("master br0" in net.about(tap) for tap in taps)
    pid = world.pid()
    assert Path(f"/proc/{pid}/net/dev").read_text().count(":") == 1  # lo
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/thread-self/ns/net")
    status = Path(f"/proc/{pid}/status").read_text()
    assert all(f"{name}:\t{0:016x}" in status for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    world.node.stop("web1", force=True)
    assert net.links() == {"br0"}


def test_taps_go_when_qemu_is_killed_and_a_reboot_makes_them_again(net: Network, world: World) -> None:
    world.start(nics=bridged(*MACS))
    taps = net.links()
    world.kill()
    assert net.links() == {"br0"}
    world.node.stop("web1", force=True)
    world.pressable("web1", nics=bridged(*MACS))
    assert net.links() == taps
    world.node.reboot("web1")
    assert net.links() == taps


def test_the_queues_and_the_mtu_of_a_nic(net: Network, world: World) -> None:
    world.start(nics=bridged(MACS[0], mtu=1400))
    (tap,) = net.links() - {"br0"}
    assert "mtu 1400" in net.about(tap)


def test_a_mac_address_has_one_instance_of_the_node(net: Network, world: World) -> None:
    world.start(nics=bridged(MACS[0]))
    with pytest.raises(hvcore.VerifyError, match=rf"nics\[0\].mac: is taken by instance web1, got {MACS[0]}"):
        world.start("web2", nics=bridged(MACS[0]))
    world.node.stop("web1", force=True)
    world.start("web2", nics=bridged(MACS[0]))


def test_a_bridge_that_is_missing_is_refused_before_anything_is_made(net: Network, world: World) -> None:
    with pytest.raises(hvcore.VerifyError, match=r"nics\[0\].link: does not exist on this node, got 'br1'"):
        world.start(nics=(Nic(mode="bridged", link="br1"),))
    assert net.links() == {"br0"}


def test_a_start_that_fails_leaves_no_tap(net: Network, world: World) -> None:
    with pytest.raises(hvcore.LaunchError):
        world.start(nics=bridged(*MACS), kvm_extra="-device no-such-device")
    assert net.links() == {"br0"}


def test_info_shows_the_tap_its_bridge_and_the_addresses_that_the_node_has_seen(net: Network, world: World) -> None:
    world.start(nics=bridged(*MACS))
    net.ip("neighbour", "add", "192.0.2.7", "lladdr", MACS[1], "dev", "br0")
    found = world.info().interfaces
    assert [(one.nic, one.port_of, one.seen) for one in found] == [(0, "br0", ()), (1, "br0", ("192.0.2.7",))]
    assert {one.name for one in found} == net.links() - {"br0"}


def test_vhost_is_refused_where_no_nic_can_use_it(world: World) -> None:
    """Needs no network: the check is pure."""
    for given, what in (
        ({"nics": (Nic(),)}, "needs a NIC on a tap of the node"),
        ({"nics": bridged(MACS[0]), "nic_type": "e1000"}, "needs paravirtual NICs, but nic_type is 'e1000'"),
    ):
        with pytest.raises(hvcore.ParamsError, match=rf"params.vhost_net: {what}"):
            world.kvm.check(world.instance(vhost_net=True, **given))
    world.kvm.check(world.instance(vhost_net=True, nics=(*bridged(MACS[0]), Nic())))
    world.kvm.check(world.instance(vhost_net=True))


class Waiting:
    """Looks, while it is entered, for callers in this process that wait for a file lock: proc(5), ``->`` in /proc/locks."""

    def __enter__(self) -> list[str]:
        self.found: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self.found

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def look(self) -> None:
        while not self.over.wait(0.002):
            lines = Path("/proc/locks").read_text().splitlines()
            self.found += [line for line in lines if "->" in line and f" {os.getpid()} " in line]


def start_together(
    net: Network, world: World, count: int, links: dict[str, str] | None = None, ovs_socket: str = ""
) -> None:
    """Start that many guests with two NICs each at once, and compare names, MAC addresses and uids.

    ``links`` are the modes, each with its link; NICs have them in turn.
    """
    modes = itertools.cycle((links or {"bridged": "br0"}).items())
    before = net.links()
    instances = []
    for number in range(count):
        nics = tuple(Nic(mode=mode, link=link) for mode, link in (next(modes), next(modes)))
        switched = any(nic.mode == "openvswitch" for nic in nics)
        more = {"ovs_socket": ovs_socket} if switched else {}
        instances.append(world.instance(f"web{number}", nics=nics, **more))
    with Waiting() as waiting, ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(lambda one: world.kvm.start(one, deadline_s=300.0), instances))
    assert all(outcome.changed for outcome in outcomes)
    assert waiting == []
    infos = world.node.instances()
    names = [one.name for info in infos for one in info.interfaces]
    macs = [nic.mac for info in infos for nic in info.nics]
    uids = [info.details["uid"] for info in infos]
    assert [len(set(found)) for found in (names, macs, uids)] == [2 * count, 2 * count, count]
    assert set(names) == net.links() - before
    for instance in instances:
        world.node.stop(instance.name, force=True)
    assert net.links() == before


def test_guests_that_start_at_once_share_nothing_and_wait_for_no_lock(net: Network, world: World) -> None:
    start_together(net, world, 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_32_guests_that_start_at_once_share_nothing_and_wait_for_no_lock(
    net: Network, worlds: Any, tmp_path: Path
) -> None:
    world = worlds(tmp_path)
    world.node = hvcore.Node(world.run_dir, uid_pool=range(world.uids.start, world.uids.start + 40))
    start_together(net, world, 32)


@pytest.fixture
def requests_s(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Of each request to the kernel about links, its seconds and its seconds of processor time. Others wait meanwhile."""
    found: list[tuple[float, float]] = []
    ask = Netlink.ask

    def timed(self: Netlink, kind: int, body: bytes, flags: int = 0) -> list[bytes]:
        began, used = time.monotonic(), time.thread_time()
        try:
            return ask(self, kind, body, flags)
        finally:
            found.append((time.monotonic() - began, time.thread_time() - used))

    monkeypatch.setattr(Netlink, "ask", timed)
    return found


MIXED = {"bridged": "br0", "openvswitch": "ovs0", "macvtap": "up0"}


@NEEDS_OVS
@pytest.mark.parametrize("count", [3, pytest.param(32, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
def test_guests_of_mixed_modes_that_start_at_once_share_nothing_and_hold_no_lock_for_long(
    net: Network,
    worlds: Any,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    requests_s: list[tuple[float, float]],
    count: int,
) -> None:
    net.ip("link", "add", "up0", "type", "veth", "peer", "name", "wire0")
    for name in ("up0", "wire0"):
        net.ip("link", "set", name, "up")
    world = worlds(tmp_path)
    world.node = hvcore.Node(world.run_dir, uid_pool=range(world.uids.start, world.uids.start + 40))
    with open_vswitch(tmp_path_factory.mktemp("ovs") / "run") as ovs:
        start_together(net, world, count, MIXED, ovs.socket)
        assert ovs.ports() == set()
        net.ip("link", "del", "up0")
    longest = max(requests_s)[0], max(used for _, used in requests_s)
    print(f"longest of {len(requests_s)} requests about links: {longest[0]:.4f} s, processor {longest[1]:.4f} s")  # noqa: T201 - with -s
    assert longest[1] < 0.1
