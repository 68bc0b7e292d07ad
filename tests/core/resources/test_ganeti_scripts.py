"""Ganeti's own scripts, unpacked by ``./dev setup`` and run unchanged but for the places that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network

from hvcore.host.launching.launch import reap
from hvcore.plugin import Instance, Job, NetworkScripts, Nic, OperationError, Tap, script_environment

AtWork = Callable[..., Job]
UNPACKED = Path(__file__).resolve().parents[3] / ".cache/ganeti"
TAP = Tap(key="nic0.tap", given_by="nics[0].mode", mac="52:54:00:11:22:33")

pytestmark = [
    pytest.mark.live,
    NEEDS_ROOT,
    pytest.mark.skipif(not (UNPACKED / "kvm-ifup").exists(), reason="no scripts of Ganeti: ./dev setup"),
]


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as found:
        found.bridge()
        yield found
    reap()


@pytest.fixture
def kvm_ifup(tmp_path: Path) -> str:
    """Ganeti's script for its taps, which executes the operator's ``kvm-vif-bridge`` in ``tmp_path/etc/ganeti``."""
    (tmp_path / "etc/ganeti").mkdir(parents=True)
    common, script = ((UNPACKED / name).read_text() for name in ("net-common", "kvm-ifup"))
    (tmp_path / "net-common").write_text(common.replace("${GANETI_ROOTDIR:-}", str(tmp_path)))
    path = tmp_path / "kvm-ifup"
    path.write_text(script.replace("/usr/lib/ganeti/net-common", str(tmp_path / "net-common")))
    path.chmod(0o755)
    return str(path)


def scripts(up: str, **nic: Any) -> NetworkScripts:
    given = {"mode": "bridged", "link": "br0", "mac": TAP.mac, **nic}
    instance = Instance(name="web1", driver="kvm", nics=(Nic(**given),), tags=("web",))
    return NetworkScripts(
        key="nic0.scripts",
        given_by="params.network_up_script",
        link=TAP,
        up=up,
        down=None,
        mode=given["mode"],
        bridge=given["link"] if given["mode"] == "bridged" else None,
        environment=script_environment(instance, 0),
    )


def test_the_script_connects_a_tap_to_its_bridge(net: Network, at_work: AtWork, kvm_ifup: str) -> None:
    job = at_work()
    job.acquire(scripts(kvm_ifup))
    about = net.about(job.held[TAP].name)
    assert "master br0" in about
    assert "link/ether fe:54:00:11:22:33" in about
    job.release()
    assert net.links() == {"br0"}


def test_the_operators_script_gets_what_it_gets_from_ganeti(
    net: Network, at_work: AtWork, kvm_ifup: str, tmp_path: Path
) -> None:
    own = tmp_path / "etc/ganeti/kvm-vif-bridge"
    own.write_text(
        f"""#!/bin/sh
env > {tmp_path}/seen
echo "$#" > {tmp_path}/arguments
ip link set "$INTERFACE" up
[ "$MODE" = bridged ] && ip link set dev "$INTERFACE" master "$BRIDGE"
"""
    )
    own.chmod(0o755)
    job = at_work()
    job.acquire(scripts(kvm_ifup, ip=("192.0.2.7/24",), name="front"))
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen").read_text().splitlines())
    wanted = "ACTION BRIDGE INSTANCE INTERFACE INTERFACE_INDEX INTERFACE_NAME INTERFACE_UUID IP LINK MAC MODE PATH TAGS"
    assert set(wanted.split()) <= set(seen)
    assert (seen["IP"], seen["TAGS"], seen["INTERFACE"]) == ("192.0.2.7", "web", job.held[TAP].name)
    assert (tmp_path / "arguments").read_text() == "0\n"
    assert "master br0" in net.about(job.held[TAP].name)
    job.release()


def test_a_bridge_that_is_missing_fails_though_the_script_ends_with_0(
    net: Network, at_work: AtWork, kvm_ifup: str
) -> None:
    job = at_work()
    with pytest.raises(OperationError, match=r"succeeded, but interface .* is not a port of bridge br9"):
        job.acquire(scripts(kvm_ifup, link="br9"))
    job.release()
    assert net.links() == {"br0"}


@pytest.mark.parametrize("link", ["", "100"])
def test_the_script_routes_an_address_to_a_tap(net: Network, at_work: AtWork, kvm_ifup: str, link: str) -> None:
    job = at_work()
    job.acquire(scripts(kvm_ifup, mode="routed", link=link or None, ip=("192.0.2.7",)))
    tap = job.held[TAP].name
    assert f"192.0.2.7 dev {tap}" in net.ip("route", "show", "table", link or "main")
    assert (f"iif {tap} lookup 100" in net.ip("rule", "show")) == bool(link)
    job.release()
    assert net.links() == {"br0"}
    assert tap not in net.ip("rule", "show")
