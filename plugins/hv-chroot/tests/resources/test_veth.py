"""Interfaces of an instance, in a network namespace of the tests with a real bridge."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from images import Build

import hvcore
import hvcore.plugin
from hv_chroot.families.network import addresses
from hvcore import Instance, Nic
from hvcore.state.store import Store

SERVES = """\
    #!/bin/sh
    case $1 in
      start) echo hello from $(hostname) > /page; busybox httpd -p 8080 -h / ;;
      stop) exit 0 ;;
    esac
"""
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def web(images: Callable[..., Path]) -> Build:
    def build(name: str, address: str, *, bridge: str = "br0", **params: object) -> Instance:
        disk = hvcore.Disk(path=str(images(SERVES, name=f"{name}.img")))
        own = {"network": "veth", "network_addresses": [address], "network_gateways": ["10.77.0.1"], **params}
        nics = (Nic(mode="bridged", link=bridge, mac="aa:00:00:4b:c1:0" + address[8]),)
        return Instance(name=name, driver="chroot", disks=(disk,), nics=nics, params=own)

    return build


def run(node: hvcore.Node, name: str, *argv: str) -> str:
    command = node.execution(name, argv).argv
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    return found.stdout


@ROOT
@pytest.mark.live
@pytest.mark.parametrize("users", ["on", "off"])
def test_a_daemon_is_reached_over_the_bridge_and_instances_reach_each_other(
    net: Any, node: hvcore.Node, web: Build, users: str
) -> None:
    first, second = web("web1", "10.77.0.2/24"), web("web2", "10.77.0.3/24", user_namespace=users, network_mtu=1400)
    for instance in (first, second):
        node.driver("chroot").start(instance)
    assert urllib.request.urlopen("http://10.77.0.2:8080/page", timeout=300).read() == b"hello from web1\n"
    assert run(node, "web2", "busybox", "wget", "-qO-", "http://10.77.0.2:8080/page") == "hello from web1\n"
    assert run(node, "web1", "busybox", "wget", "-qO-", "http://10.77.0.3:8080/page") == "hello from web2\n"
    seen = run(node, "web1", "busybox", "ip", "address")
    assert "eth0" in seen
    assert "aa:00:00:4b:c1:02" in seen
    assert "mtu 1450" in run(node, "web1", "busybox", "ip", "link", "show", "eth0")  # that of the bridge
    assert "mtu 1400" in run(node, "web2", "busybox", "ip", "link", "show", "eth0")
    assert "default via 10.77.0.1" in run(node, "web1", "busybox", "ip", "route")
    assert len(net.links()) == 4
    node.stop("web1")
    assert len(net.links()) == 3
    node.stop("web2", force=True)


@ROOT
@pytest.mark.live
def test_a_bridge_that_does_not_exist_is_refused_before_a_start(net: Any, node: hvcore.Node, web: Build) -> None:
    net.ip("link", "add", "dummy0", "type", "veth", "peer", "dummy1")
    missing, other = web("web1", "10.77.0.2/24", bridge="br9"), web("web2", "10.77.0.3/24", bridge="dummy0")
    with pytest.raises(hvcore.VerifyError, match=r"nics\[0\].link: does not exist on this node, got 'br9'"):
        node.driver("chroot").start(missing)
    with pytest.raises(hvcore.VerifyError, match=r"nics\[0\].link: is not a bridge, got 'dummy0'"):
        node.driver("chroot").start(other)
    net.ip("link", "del", "dummy0")


@ROOT
@pytest.mark.live
@pytest.mark.parametrize("step", ["making", "connecting", "mounting", "running"])
def test_a_caller_that_is_killed_leaves_no_interface(net: Any, node: hvcore.Node, web: Build, step: str) -> None:
    instance = web("web1", "10.77.0.2/24")

    def die(text: str) -> None:
        if text.startswith(step):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            hvcore.Node(node.run_dir, progress=die).driver("chroot").start(instance)
        finally:
            os._exit(70)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert [found.what for found in node.recover()] == ["undone"]
    assert net.links() == {"lo", "br0"}


@ROOT
@pytest.mark.live
def test_an_interface_of_that_name_without_the_mark_is_left_alone(net: Any, node: hvcore.Node, web: Build) -> None:
    instance = web("web1", "10.77.0.2/24")
    node.driver("chroot").start(instance)
    (name,) = net.links() - {"lo", "br0"}
    node.stop("web1", force=True)
    net.ip("link", "add", name, "type", "bridge")
    with pytest.raises(hvcore.VerifyError, match=f"needs the interface name {name}, and another interface has it"):
        node.driver("chroot").start(instance)
    assert name in net.links()
    net.ip("link", "del", name)


@ROOT
@pytest.mark.live
def test_the_keys_of_a_nic_are_those_of_its_interface(net: Any, node: hvcore.Node, web: Build) -> None:
    nic = Nic(mode="bridged", link="br0", mac="aa:00:00:4b:c1:02", ip=("10.77.0.2/24", "fd00::2/64"), mtu=1300)
    nic = replace(nic, bandwidth_to_guest=10**8, bandwidth_from_guest=10**8)
    node.driver("chroot").start(replace(web("web1", "eth0=10.77.0.3/24"), nics=(nic,)))
    seen = run(node, "web1", "busybox", "ip", "address")
    assert all(text in seen for text in ("mtu 1300", "10.77.0.2/24", "fd00::2/64", "10.77.0.3/24"))
    other = replace(web("web2", "10.77.0.4/24"), nics=(nic,))
    with pytest.raises(hvcore.VerifyError, match=r"nics\[0\].mac: is taken by instance web1, got aa:00:00:4b:c1:02"):
        node.driver("chroot").start(other)
    assert len(net.links()) == 4  # with the ifb that limits what the instance sends
    assert len(node.info("web1").interfaces) == 1
    node.stop("web1", force=True)
    assert net.links() == {"lo", "br0"}


@ROOT
@pytest.mark.live
def test_an_interface_of_an_older_record_is_removed(net: Any, node: hvcore.Node, web: Build) -> None:
    node.driver("chroot").start(web("web1", "10.77.0.2/24"))
    store = Store(node.run_dir)
    record = store.load("web1")
    assert record is not None
    old = {"name": "hvoldname", "owner": f"hvcore {node.run_dir} web1 eth0"}
    ledger = [replace(entry, data=old) if entry.kind == "veth" else entry for entry in record.ledger]
    (name,) = net.links() - {"lo", "br0"}
    net.ip("link", "set", name, "down")
    net.ip("link", "set", name, "name", "hvoldname", "alias", old["owner"])
    store.save(replace(record, ledger=tuple(entry for entry in ledger if entry.kind != "unique-value")))
    node.stop("web1", force=True)
    assert net.links() == {"lo", "br0"}


@ROOT
@pytest.mark.live
def test_a_network_of_none_has_only_loopback(net: Any, node: hvcore.Node, images: Callable[..., Path]) -> None:
    disk = hvcore.Disk(path=str(images(SERVES)))
    node.driver("chroot").start(Instance(name="web1", driver="chroot", disks=(disk,), params={"network": "none"}))
    assert "eth" not in run(node, "web1", "busybox", "ip", "link")
    with pytest.raises(OSError, match=r"."):
        socket.create_connection(("127.0.0.1", 8080), timeout=1)
    node.stop("web1")


def problems(**changed: object) -> str:
    given = {"name": "web1", "driver": "chroot", "disks": [{"path": "/srv/a.img"}], **changed}
    with pytest.raises(hvcore.ParamsError) as raised:
        hvcore.Node("/nonexistent/run").check(given)
    return str(raised.value)


BRIDGED = {"mode": "bridged", "link": "br0"}


def test_all_contradictions_are_reported_at_once() -> None:
    assert "set params.network to 'veth'" in problems(nics=[BRIDGED])
    assert "nics: is empty, and network is 'veth'" in problems(params={"network": "veth"})
    veth = {"network": "veth"}
    assert "nics[0].ip: has no prefix length" in problems(nics=[{**BRIDGED, "ip": "10.0.0.5"}], params=veth)
    assert "nics[0].mode: is not supported" in problems(nics=[{"mode": "user"}], params={"network": "veth"})
    said = problems(
        nics=[{"mode": "bridged"}],
        params={
            "network": "veth",
            "isolation": "none",
            "network_addresses": ["eth1=10.0.0.1/8"],
            "network_gateways": ["10.0.0.1", "10.0.0.2"],
        },
    )
    for text in (
        "nics[0].link: is not set, and mode 'bridged' needs a link",
        "has an address for eth1",
        "has two addresses of one IP version",
        "needs namespaces",
    ):
        assert text in said
    two = {"nics": [{**BRIDGED, "ip": ["10.0.0.5/24", "fd00::5/64"]}]}
    for given, text in {
        "10.0.0.5/16": "params.network_addresses: has an address that eth0 has already, got '10.0.0.5/16'",
        "eth0=fd00::5/64": "params.network_addresses: has an address that eth0 has already",
    }.items():
        assert text in problems(**two, params={**veth, "network_addresses": [given]})
    for gateway in ("10.0.1.1", "fe80::1"):
        text = f"params.network_gateways: is in the network of no interface, got '{gateway}'"
        assert text in problems(**two, params={**veth, "network_gateways": [gateway]})
    assert "has no effect, got 1400; set network = 'veth'" in problems(params={"network_mtu": 1400})


@pytest.mark.parametrize("wrong", ["10.0.0.1", "eth=10.0.0.1/8", "lo=10.0.0.1/8", "10.0.0.1/33", "", 5, "eth0=/8"])
def test_an_address_needs_its_prefix_and_an_interface_its_number(wrong: object) -> None:
    with pytest.raises(hvcore.plugin.Reject):
        addresses().parse(wrong)


def test_addresses_are_kept_with_their_interface() -> None:
    assert addresses().parse("10.0.0.5/24") == "eth0=10.0.0.5/24"
    assert addresses().parse("eth2=FD00::5/64") == "eth2=fd00::5/64"
