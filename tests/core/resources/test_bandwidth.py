"""Limits of links, measured with real packets between network namespaces of the test."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from flood import KIND, flood, packet, rate_of

from hvcore.host.network import traffic_control
from hvcore.host.network.links import add_ifb, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.plugin import Bandwidth, BridgePort, Job, Macvtap, OperationError, Site, Tap
from hvcore.resources import bandwidth
from hvcore.resources.bandwidth import BandwidthKind

AtWork = Callable[..., Job]
Sites = Callable[..., Site]
MAC = "aa:00:00:4b:c1:01"
TAP = Tap(key="nic0.tap", given_by="nics[0].mode", mac=MAC, vnet_hdr=False)
PORT = BridgePort(key="nic0.port", given_by="nics[0].link", link=TAP, bridge="br0")
LIMITS = Bandwidth(
    key="nic0.limits",
    given_by="nics[0].bandwidth_to_guest",
    link=TAP,
    mac=MAC,
    to_guest=8_000_000,
    from_guest=16_000_000,
)
MACVTAP = Macvtap(key="nic0.tap", given_by="nics[0].link", mac=MAC, lower="up0", vnet_hdr=False)

pytestmark = NEEDS_ROOT


@pytest.fixture
def net() -> Iterator[Network]:
    """A bridge ``br0``; an interface ``up0`` whose other end is ``wire0``."""
    with empty_network() as network:
        network.bridge()
        network.ip("link", "add", "up0", "type", "veth", "peer", "name", "wire0")
        for name in ("up0", "wire0"):
            network.ip("link", "set", name, "up")
        yield network


@pytest.mark.heavy
@pytest.mark.parametrize(("link", "wire"), [(TAP, "br0"), (MACVTAP, "wire0")], ids=["tap", "macvtap"])
def test_both_limits_hold_within_a_fifth(net: Network, at_work: AtWork, link: Tap | Macvtap, wire: str) -> None:
    limits = replace(LIMITS, link=link)
    job = at_work()
    handles = job.acquire(*([PORT] if link is TAP else []), limits)
    fd = int(handles[link].fds[0])
    os.set_blocking(fd, False)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(KIND)) as other:
        other.bind((wire, KIND))
        with flood(other.send, packet("02:00:00:00:00:01", MAC)):
            to_guest = rate_of(fd)
        with flood(lambda data: os.write(fd, data), packet(MAC, "ff:ff:ff:ff:ff:ff")):
            from_guest = rate_of(other.fileno())
    print(f"{to_guest / 8e6:.3f} {from_guest / 16e6:.3f} of the limits")  # noqa: T201 - with -s, for a report
    assert 0.8 < to_guest / 8e6 < 1.2
    assert 0.8 < from_guest / 16e6 < 1.2


def test_limits_are_at_the_link_and_are_released_with_it(net: Network, at_work: AtWork, site: Sites) -> None:
    before = net.links()
    assert list(BandwidthKind().verify(LIMITS, site())) == []
    job = at_work()
    name = job.acquire(PORT, LIMITS)[TAP].name
    ifb = job.record.ledger[-1].data["ifb"]
    assert net.links() - before == {name, ifb}
    assert f"alias hvcore {os.path.realpath(job.host.run_dir)} web1 nic0.limits" in net.about(ifb)
    BandwidthKind().prove(LIMITS, site(), job)
    job.held.close()
    for _ in range(2):
        job.release()
        assert net.links() == before


def test_limits_can_be_released_while_the_link_stays(net: Network, at_work: AtWork) -> None:
    job = at_work()
    name = job.acquire(PORT, LIMITS)[TAP].name
    job.release("nic0.limits")
    assert name in net.links()
    with Netlink() as netlink:
        index = the_link(netlink, name).index
        assert not traffic_control.limits_at(netlink, index) & {"tbf", "ingress"}
    job.acquire(LIMITS)
    job.held.close()
    job.release()


def test_one_limit_needs_no_second_link(net: Network, at_work: AtWork) -> None:
    job = at_work()
    before = net.links()
    name = job.acquire(PORT, replace(LIMITS, from_guest=None))[TAP].name
    assert net.links() - before == {name}
    job.held.close()
    job.release()


def test_limits_that_another_program_removed_are_seen_after_the_launch(
    net: Network, at_work: AtWork, site: Sites
) -> None:
    job = at_work()
    name = job.acquire(PORT, LIMITS)[TAP].name
    with Netlink() as netlink:
        traffic_control.remove_limits(netlink, the_link(netlink, name).index)
    with pytest.raises(OperationError, match=f"{name} is not limited any more; another program changed it"):
        BandwidthKind().prove(LIMITS, site(), job)
    job.held.close()
    job.release()


def test_limits_with_another_rate_are_seen(net: Network, at_work: AtWork, site: Sites) -> None:
    job = at_work()
    job.acquire(PORT, LIMITS)
    BandwidthKind().prove(LIMITS, site(), job)
    for other in ({"to_guest": 9_000_000}, {"from_guest": 9_000_000}, {"from_guest": None}):
        with pytest.raises(OperationError, match="has other limits; another program changed it"):
            BandwidthKind().prove(replace(LIMITS, **other), site(), job)
    fast = replace(LIMITS, to_guest=80_000_000_000, from_guest=None)  # more than 32 bits of bytes per second
    job.release(LIMITS.key)
    job.acquire(fast)
    BandwidthKind().prove(fast, site(), job)
    job.held.close()
    job.release()


def test_an_ifb_without_its_mark_is_removed_by_its_kind_and_address(net: Network, at_work: AtWork) -> None:
    before = net.links()
    job = at_work()
    job.acquire(PORT, LIMITS)
    entry = job.record.ledger[-1]
    net.ip("link", "del", entry.data["ifb"])
    with Netlink() as netlink:  # a start that is killed between the two requests leaves it so
        add_ifb(netlink, entry.data["ifb"], address=entry.data["mac"])
    job.held.close()
    job.release()
    assert net.links() == before


def test_a_kernel_without_what_limits_need_is_refused(
    net: Network, site: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert traffic_control.why_no_limits() is None
    monkeypatch.setattr(bandwidth, "why_no_limits", lambda: "Specified qdisc kind is unknown")
    (told,) = BandwidthKind().verify(LIMITS, site())
    assert str(told) == (
        "nics[0].bandwidth_to_guest: needs parts of the kernel that this node lacks (Specified qdisc kind is unknown); "
        "modprobe -a sch_tbf sch_ingress cls_u32 act_mirred ifb; or unset it"
    )


def test_what_the_kernel_lacks_is_found_without_a_change_of_the_node(
    net: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = net.links()

    def without(netlink: Netlink, index: int, rate: int, *, mtu: int) -> None:
        raise OSError(2, "Specified qdisc kind is unknown")

    monkeypatch.setattr(traffic_control, "limit_transmitted", without)
    traffic_control.why_no_limits.cache_clear()
    assert traffic_control.why_no_limits() == "Specified qdisc kind is unknown"
    traffic_control.why_no_limits.cache_clear()
    assert net.links() == before


def test_steps_of_a_plan(site: Sites) -> None:
    (step,) = BandwidthKind().describe(LIMITS, site())
    assert (step.kind, step.what) == ("limit", "nic0.tap to at most 8 Mbit/s to the guest and 16 Mbit/s from the guest")
    (step,) = BandwidthKind().describe(replace(LIMITS, to_guest=None, from_guest=64_001), site())
    assert step.what == "nic0.tap to at most 64001 bit/s from the guest"
