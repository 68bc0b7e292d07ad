"""Interfaces of an instance as ports of Open vSwitch, whose packets a process moves: that of a test machine."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from empty_network import Network, empty_network
from open_vswitch import NEEDS_OVS, OpenVSwitch, open_vswitch

import hvcore
from hvcore import Instance, Nic

pytestmark = [pytest.mark.live, NEEDS_OVS]

BYTES = 3_000_000
SERVES = f"""\
    #!/bin/sh
    case $1 in
      start) head -c {BYTES} /dev/zero > /page; busybox httpd -p 8080 -h / ;;
      stop) exit 0 ;;
    esac
"""


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        yield network


@pytest.fixture
def ovs(net: Network, tmp_path: Path) -> Iterator[OpenVSwitch]:
    with open_vswitch(tmp_path / "ovs") as switch:
        net.ip("addr", "add", "10.9.0.1/24", "dev", "ovs0")
        net.ip("addr", "add", "fd09::1/64", "dev", "ovs0", "nodad")
        yield switch


@pytest.fixture
def started(ovs: OpenVSwitch, node: hvcore.Node, images: Callable[..., Path]) -> Callable[..., None]:
    """``started(2, vlan="8")``: instance web2 with the addresses .2 and ::2."""

    def start(number: int, **nic: object) -> None:
        name = f"web{number}"
        ip = (f"10.9.0.{number}/24", f"fd09::{number}/64")
        one = Nic(**{"mode": "openvswitch", "link": "ovs0", "ip": ip, **nic})  # type: ignore[arg-type]
        params = {"network": "veth", "ovs_socket": ovs.socket}
        disk = hvcore.Disk(path=str(images(SERVES, name=f"{name}.img")))
        node.driver("chroot").start(Instance(name=name, driver="chroot", disks=(disk,), nics=(one,), params=params))

    return start


def loads(node: hvcore.Node, name: str, address: str, seconds: int = 60) -> bool:
    """Whether the instance gets the whole page of another."""
    command = f"busybox timeout {seconds} busybox wget -qO- http://{address}:8080/page | busybox wc -c"
    argv = node.execution(name, ["/bin/sh", "-c", command]).argv
    found = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip() == str(BYTES)


def test_instances_at_one_bridge_reach_each_other_and_the_node(
    net: Network, ovs: OpenVSwitch, node: hvcore.Node, started: Callable[..., None]
) -> None:
    net.ip("link", "set", "ovs0", "mtu", "1450")
    for number in (2, 3):
        started(number)
    for host in ("10.9.0.2", "[fd09::2]"):
        assert len(urllib.request.urlopen(f"http://{host}:8080/page", timeout=60).read()) == BYTES
        assert loads(node, "web3", host)
    (first, second) = ovs.ports()
    assert "mtu 1450" in net.about(first)
    assert {ovs.column("Port", name, "external_ids:hvcore").strip('"').split()[2] for name in (first, second)} == {
        "web2",
        "web3",
    }
    node.stop("web2", force=True)
    assert len(ovs.ports()) == 1
    node.stop("web3", force=True)
    assert (ovs.ports(), net.links()) == (set(), {"ovs0", "ovs-netdev"})


def test_vlans_are_apart(ovs: OpenVSwitch, node: hvcore.Node, started: Callable[..., None]) -> None:
    for number, vlan in ((2, "8"), (3, "8"), (4, "9")):
        started(number, vlan=vlan)
    assert loads(node, "web3", "10.9.0.2")
    assert not loads(node, "web4", "10.9.0.2", seconds=3)
    for number in (2, 3, 4):
        node.stop(f"web{number}", force=True)


def test_limits_are_those_of_the_port(ovs: OpenVSwitch, node: hvcore.Node, started: Callable[..., None]) -> None:
    started(2, bandwidth_to_guest=80_000_000)
    (port,) = ovs.ports()
    assert ovs.column("Port", port, "qos") != "[]"
    node.stop("web2", force=True)
    assert ovs.ask("--no-wait", "--columns=_uuid", "list", "QoS").strip() == ""


@pytest.mark.parametrize(
    ("nic", "message"),
    [
        ({"link": "no-such"}, r"nics\[0\].link: is not a bridge of Open vSwitch, got 'no-such'"),
        ({"bandwidth_from_guest": 80_000_000}, r"nics\[0\].bandwidth_from_guest: cannot be enforced on bridge ovs0"),
    ],
)
def test_what_the_bridge_cannot_do_is_refused_before_and_at_the_start(
    net: Network, ovs: OpenVSwitch, started: Callable[..., None], nic: dict[str, object], message: str
) -> None:
    with pytest.raises(hvcore.HvError, match=message):
        started(2, **nic)
    assert (ovs.ports(), net.links()) == (set(), {"ovs0", "ovs-netdev"})


def test_a_socket_without_such_a_nic_has_no_effect(node: hvcore.Node, images: Callable[..., Path]) -> None:
    disk, nic = hvcore.Disk(path="/srv/a.img"), Nic(mode="bridged", link="br0")
    params = {"network": "veth", "ovs_socket": "/run/db.sock"}
    with pytest.raises(hvcore.ParamsError, match=r"params.ovs_socket: has no effect without a NIC of mode"):
        node.driver("chroot").check(Instance(name="web1", driver="chroot", disks=(disk,), nics=(nic,), params=params))
