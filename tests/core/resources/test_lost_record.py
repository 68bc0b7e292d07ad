"""Interfaces that an earlier start of an instance left, and whose record was lost, are replaced by the next start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network

from hvcore.errors import HvError
from hvcore.host.network.link_names import link_mark, link_name
from hvcore.plugin import Bandwidth, Job, Macvtap, Tap
from hvcore.resources.node_link import name_of_link

pytestmark = NEEDS_ROOT

MAC = "aa:00:00:4b:c1:01"
TAP = Tap(key="nic0.tap", given_by="nics[0].mode", mac=MAC)
MACVTAP = Macvtap(key="nic0.tap", given_by="nics[0].link", mac=MAC, lower="up0")
LIMITS = Bandwidth(key="nic0.limits", given_by="nics[0].bandwidth_from_guest", link=TAP, mac=MAC, from_guest=10**6)
WANTED = pytest.mark.parametrize("wanted", [TAP, MACVTAP, LIMITS], ids=["tap", "macvtap", "ifb"])


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.ip("link", "add", "up0", "type", "veth", "peer", "name", "wire0")
        network.ip("link", "set", "up0", "up")
        yield network


def left(net: Network, job: Job, wanted: Tap | Macvtap | Bandwidth, mark: str) -> int:
    """An interface of that name and mark, which is up: its index."""
    name = name_of_link(TAP, job.held.site) if wanted is TAP else link_name(job.host.run_dir, "web1", wanted.key)
    kind = ("tuntap", "add", name, "mode", "tap") if wanted is TAP else ("link", "add", name, "type", "ifb")
    net.ip(*kind)
    net.ip("link", "set", name, "up", "alias", mark)
    return index_of(net, name)


def index_of(net: Network, name: str) -> int:
    return int(net.about(name).partition(":")[0])


@WANTED
def test_it_is_replaced(net: Network, at_work: Callable[..., Job], wanted: Tap | Macvtap | Bandwidth) -> None:
    job = at_work()
    old = left(net, job, wanted, link_mark(job.host.run_dir, "web1", wanted.key))
    job.acquire(wanted)
    name = link_name(job.host.run_dir, "web1", wanted.key)
    assert index_of(net, name) != old
    job.release()
    job.held.close()
    assert net.links() == {"up0", "wire0"}


@WANTED
def test_one_of_another_instance_stays(
    net: Network, at_work: Callable[..., Job], wanted: Tap | Macvtap | Bandwidth
) -> None:
    job = at_work()
    old = left(net, job, wanted, link_mark(job.host.run_dir, "web2", wanted.key))
    if wanted is TAP:  # two programs can have one tap with one queue
        wanted = replace(TAP, queues=2)
    with pytest.raises(HvError, match="cannot"):
        job.acquire(wanted)
    job.release()
    assert index_of(net, link_name(job.host.run_dir, "web1", wanted.key)) == old
