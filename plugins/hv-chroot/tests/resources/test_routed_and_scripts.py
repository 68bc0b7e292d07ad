"""Interfaces of an instance that the node routes to, or that a script connects, in a network namespace of the test."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network

import hvcore
from hvcore import Instance, Nic

pytestmark = [pytest.mark.live, NEEDS_ROOT]

SERVES = """\
    #!/bin/sh
    case $1 in
      start) echo hello from $(hostname) > /page; busybox httpd -p 8080 -h / ;;
      stop) exit 0 ;;
    esac
"""


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.forward()
        network.ip("addr", "add", "192.0.2.1/32", "dev", "lo")
        network.ip("addr", "add", "fd00::1/128", "dev", "lo")
        yield network
        assert (network.links() - {"br0"}, network.rules()) == (set(), [])


Made = Callable[..., Instance]


@pytest.fixture
def made(images: Callable[..., Path]) -> Made:
    def build(name: str, *nics: Nic, **params: object) -> Instance:
        disk = hvcore.Disk(path=str(images(SERVES, name=f"{name}.img")))
        return Instance(name=name, driver="chroot", disks=(disk,), nics=nics, params={"network": "veth", **params})

    return build


def run(node: hvcore.Node, name: str, *argv: str) -> str:
    command = node.execution(name, argv).argv
    found = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    return found.stdout


def page(address: str) -> bytes:
    data: bytes = urllib.request.urlopen(f"http://{address}:8080/page", timeout=300).read()
    return data


@pytest.mark.parametrize("link", ["100", None])
def test_routed_instances_are_reached_and_reach_each_other(
    net: Network, node: hvcore.Node, made: Made, link: str | None
) -> None:
    for number in (7, 8):
        ip = (f"192.0.2.{number}", f"fd00::{number}/64")
        node.driver("chroot").start(made(f"web{number}", Nic(mode="routed", link=link, ip=ip)))
    for host in ("192.0.2.7", "[fd00::7]"):
        assert page(host) == b"hello from web7\n"
    for host in ("192.0.2.8", "[fd00::8]"):
        assert run(node, "web7", "busybox", "wget", "-qO-", f"http://{host}:8080/page") == "hello from web8\n"
    assert "192.0.2.7/32" in run(node, "web7", "busybox", "ip", "address")
    assert "default via fe80::1 dev eth0" in run(node, "web7", "busybox", "ip", "-6", "route")
    node.stop("web8", force=True)
    assert page("192.0.2.7") == b"hello from web7\n"
    node.stop("web7", force=True)


def scripts(folder: Path) -> dict[str, str]:
    for name, text in {
        "up": 'ip link set "$INTERFACE" up; ip link set "$INTERFACE" master br0',
        "down": f'echo "$ACTION $MODE $INSTANCE" >> {folder}/ran',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return {"network_up_script": f"{folder}/up", "network_down_script": f"{folder}/down"}


@pytest.mark.parametrize(
    "nic", [Nic(mode="ext", ip=("192.0.2.7/24",)), Nic(mode="bridged", link="br0", ip=("192.0.2.7/24",))]
)
def test_a_script_connects_an_interface(net: Network, node: hvcore.Node, made: Made, tmp_path: Path, nic: Nic) -> None:
    net.bridge()
    net.ip("addr", "add", "192.0.2.2/24", "dev", "br0")
    node.driver("chroot").start(made("web1", nic, **scripts(tmp_path)))
    assert page("192.0.2.7") == b"hello from web1\n"
    assert not (tmp_path / "ran").exists()
    node.stop("web1", force=True)
    assert (tmp_path / "ran").read_text() == f"down {nic.mode} web1\n"


@pytest.mark.parametrize(
    ("nic", "params", "message"),
    [
        (Nic(mode="ext"), {}, r"nics\[0\].mode: needs a script that connects the NIC"),
        (Nic(), {"network": "host", "network_up_script": "/x"}, r"params.network_up_script: has no effect"),
        (
            Nic(mode="routed", ip=("192.0.2.7",)),
            {"network_gateways": ["192.0.2.1"]},
            r"params.network_gateways: has no effect, because each NIC has mode 'routed'",
        ),
    ],
)
def test_what_has_no_effect_is_refused(
    node: hvcore.Node, made: Made, nic: Nic, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(hvcore.ParamsError, match=message):
        node.driver("chroot").check(made("web1", nic, **params))
