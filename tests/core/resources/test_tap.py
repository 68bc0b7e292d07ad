"""Taps in a network namespace of the test: their descriptors, their names, and that they go with their process."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network

from hvcore.host.launching.launch import reap
from hvcore.host.network.link_names import link_name
from hvcore.plugin import Command, Entry, Job, OperationError, Site, Tap
from hvcore.resources.kinds import Kinds
from hvcore.resources.tap import TapKind

AtWork = Callable[..., Job]
Sites = Callable[..., Site]
MAC = "aa:00:00:4b:c1:01"
TAP = Tap(key="nic0.tap", given_by="nics[0].mode", mac=MAC, queues=1)


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        yield network


def problems(tap: Tap, site: Site, **paths: str) -> list[str]:
    return [str(problem) for problem in TapKind(**paths).verify(tap, site)]


@NEEDS_ROOT
def test_a_tap_has_its_name_its_address_and_its_mark(net: Network, at_work: AtWork) -> None:
    job = at_work()
    handle = job.acquire(TAP)[TAP]
    assert net.links() == {handle.name}
    assert handle.name == link_name(job.host.run_dir, "web1", "nic0.tap")
    assert len(handle.name) <= 15
    about = net.about(handle.name)
    assert "link/ether fe:00:00:4b:c1:01" in about
    assert "tun type tap" in about
    assert "persist off" in about
    assert f"alias hvcore {os.path.realpath(job.host.run_dir)} web1 nic0.tap" in about
    assert len(handle.fds) == 1
    assert handle.vhost_fds == ()
    job.held.close()
    assert net.links() == set()


@NEEDS_ROOT
def test_a_tap_has_as_many_descriptors_as_queues(net: Network, at_work: AtWork) -> None:
    job = at_work()
    handle = job.acquire(replace(TAP, queues=4))[TAP]
    assert len(set(handle.fds)) == 4
    assert "multi_queue" in net.about(handle.name)
    assert "vnet_hdr" in net.about(handle.name)


@NEEDS_ROOT
def test_a_tap_without_the_header_of_virtio(net: Network, at_work: AtWork) -> None:
    handle = at_work().acquire(replace(TAP, vnet_hdr=False))[TAP]
    assert "vnet_hdr off" in net.about(handle.name)


@NEEDS_ROOT
def test_the_mtu_of_a_tap_is_that_of_its_nic(net: Network, at_work: AtWork) -> None:
    handle = at_work().acquire(replace(TAP, mtu=1400))[TAP]
    assert "mtu 1400" in net.about(handle.name)


@NEEDS_ROOT
def test_a_tap_for_communication_has_the_reserved_name(net: Network, at_work: AtWork) -> None:
    handle = at_work().acquire(replace(TAP, communication=True))[TAP]
    assert handle.name.startswith("gnt.com.")
    assert len(handle.name) == 15
    assert net.links() == {handle.name}


@NEEDS_ROOT
def test_the_program_inherits_the_descriptors_and_we_keep_none(net: Network, at_work: AtWork) -> None:
    job = at_work()
    handle = job.acquire(TAP)[TAP]
    (fd,) = handle.fds
    child = job.launch(Command(argv=("sh", "-c", f"readlink /proc/self/fd/{fd}"), sandbox=None))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(int(fd))
    assert child.wait(60) is not None
    child.close()
    reap()
    assert net.links() == set()
    assert job.output() == "/dev/net/tun\n"


@NEEDS_ROOT
def test_packets_go_through_the_descriptor(net: Network, at_work: AtWork) -> None:
    handle = at_work().acquire(replace(TAP, vnet_hdr=False))[TAP]
    net.ip("link", "set", handle.name, "up")
    packet = bytes.fromhex("ffffffffffff" + MAC.replace(":", "")) + struct.pack("!H", 0x0806) + bytes(46)
    assert os.write(int(handle.fds[0]), packet) == len(packet)
    assert "RX:" in net.ip("-s", "link", "show", handle.name)


@NEEDS_ROOT
@pytest.mark.parametrize("make", ["tuntap add mode tap name {}", "link add {} type veth"])
def test_a_link_of_that_name_is_not_taken_over(net: Network, at_work: AtWork, site: Sites, make: str) -> None:
    job = at_work()
    name = link_name(job.host.run_dir, "web1", "nic0.tap")
    net.ip(*make.format(name).split())
    (message,) = problems(TAP, site())
    assert f"needs the interface name {name}, and another interface has it" in message
    with pytest.raises(OperationError, match=rf"cannot make tap {name}, got .*; see 'ip -d link show {name}'"):
        job.acquire(TAP)
    job.release()
    assert name in net.links()  # it has not our mark


@NEEDS_ROOT
def test_a_tap_that_something_made_persistent_is_removed_by_its_mark(net: Network, at_work: AtWork) -> None:
    job = at_work()
    handle = job.acquire(TAP)[TAP]
    net.ip("tuntap", "add", "mode", "tap", "name", "other")
    fcntl.ioctl(int(handle.fds[0]), 0x400454CB, 1)  # TUNSETPERSIST, linux/if_tun.h
    job.held.close()
    assert net.links() == {handle.name, "other"}
    entry = Entry(kind="tap", key="nic0.tap", data={"name": "other", "owner": job.record.ledger[0].data["owner"]})
    TapKind().release(entry, job)
    assert net.links() == {handle.name, "other"}
    for _ in range(2):
        TapKind().release(job.record.ledger[0], job)
        assert net.links() == {"other"}


@NEEDS_ROOT
def test_a_failure_between_the_queues_leaves_nothing(net: Network, at_work: AtWork) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OperationError, match="cannot make tap"):
        at_work().acquire(replace(TAP, queues=300))  # the kernel has at most 256
    assert net.links() == set()
    assert os.listdir("/proc/self/fd") == before


def test_a_node_without_taps_is_a_problem_before_and_at_the_start(at_work: AtWork, site: Sites, tmp_path: Path) -> None:
    missing = str(tmp_path / "tun")
    (message,) = problems(TAP, site(), tun=missing)
    assert message.startswith(f"nics[0].mode: needs a tap device, and {missing} cannot be opened (No such file")
    assert message.endswith("; load module tun, or use mode 'user'")


@NEEDS_ROOT
def test_vhost_is_used_if_the_node_has_it_and_refused_if_it_is_wanted_and_missing(
    net: Network, at_work: AtWork, site: Sites, tmp_path: Path
) -> None:
    missing, there = str(tmp_path / "none"), "/dev/null"  # a stand-in: acquire only opens it
    wanted = replace(TAP, vhost=True, queues=2)
    (message,) = problems(wanted, site(), vhost_net=missing)
    assert "needs vhost-net, and" in message
    assert message.endswith("load module vhost_net, or unset vhost_net")
    assert problems(replace(TAP, vhost=None), site(), vhost_net=missing) == []
    assert problems(wanted, site(), vhost_net=there) == []
    with_it, without = TapKind(vhost_net=there), TapKind(vhost_net=missing)
    job = at_work("web1", kinds=Kinds([("test", with_it)]))
    assert len(job.acquire(wanted)[wanted].vhost_fds) == 2
    job = at_work("web2", kinds=Kinds([("test", without)]))
    assert job.acquire(replace(TAP, vhost=None))[TAP].vhost_fds == ()
    job = at_work("web3", kinds=Kinds([("test", without)]))
    with pytest.raises(OperationError, match="load module vhost_net"):
        job.acquire(wanted)


def test_a_plan_shows_the_tap_and_symbols(site: Sites) -> None:
    two = replace(TAP, queues=2, vhost=None)
    (step,) = TapKind().describe(two, site())
    name = link_name(site().host.run_dir, "web1", "nic0.tap")
    assert (step.kind, step.what) == ("tap", f"make tap {name} with 2 queues for the NIC {MAC}")
    handle = TapKind().placeholder(two, site())
    assert handle.fds == ("{fd:tap-nic0.0}", "{fd:tap-nic0.1}")
    assert handle.vhost_fds == ("{fd:vhost-nic0.0}", "{fd:vhost-nic0.1}")


def test_names_differ_by_run_directory_instance_and_nic(tmp_path: Path) -> None:
    names = {
        link_name(tmp_path / run, instance, key)
        for run in ("a", "b")
        for instance in ("web1", "web2", "x" * 200)
        for key in ("nic0.tap", "nic1.tap")
    }
    assert len(names) == 12
    assert all(len(name) <= 15 and name.isalnum() for name in names)
    assert link_name(Path("/run/hvcore"), "web1", "nic0.tap") == link_name(Path("/run/hvcore"), "web1", "nic0.tap")
