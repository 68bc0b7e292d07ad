"""What doctor says about networks, in a network namespace of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from open_vswitch import NEEDS_OVS, open_vswitch

from hvcore.host.environment import Host
from hvcore.host.network_abilities import network_abilities
from hvcore.plugin import Severity

pytestmark = NEEDS_ROOT


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        yield network


def found(tmp_path: Path) -> dict[str, tuple[Severity, str, str | None]]:
    host = Host(run_dir=tmp_path, privileged=True, uid_pool=range(1, 3))
    found = network_abilities(host, tmp_path, str(tmp_path / "ovs/db.sock"))
    return {one.subject: (one.severity, one.what, one.todo) for one in found}


def test_a_node_without_networks_gets_notes_that_say_what_to_do(
    net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    notes = found(tmp_path)
    assert all(severity is not Severity.PROBLEM for severity, _, _ in notes.values())
    assert notes["bridges"][2] == "ip link add br0 type bridge"
    assert "needs a default route" in notes["passt"][1] or "not installed" in notes["passt"][1]
    assert notes["forwarding"][2] == "sysctl net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
    assert (notes["macvtap"][0], notes["bandwidth"][0]) == (Severity.OK, Severity.OK)
    assert notes["ovs-vsctl"][1] == "is not installed on this node; NICs of mode 'openvswitch' need it"


@NEEDS_OVS
def test_open_vswitch_has_to_run(net: Network, tmp_path: Path) -> None:
    assert found(tmp_path)["ovs-vsctl"][2] == "start it: systemctl start openvswitch-switch"
    with open_vswitch(tmp_path / "ovs") as ovs:
        assert found(tmp_path)["ovs-vsctl"][0] is Severity.OK
        ovs.kill_switch()
        assert found(tmp_path)["ovs-vsctl"][1] == "ovs-vswitchd does not run; NICs of mode 'openvswitch' need it"


def test_bridges_and_forwarding_are_shown(net: Network, tmp_path: Path) -> None:
    net.bridge("br7")
    for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        (tmp_path / key).parent.mkdir(parents=True)
        (tmp_path / key).write_text("1\n")
    notes = found(tmp_path)
    assert notes["bridges"] == (Severity.OK, "br7", None)
    assert notes["forwarding"][0] is Severity.OK
    (tmp_path / "net/ipv4/ip_forward").write_text("0\n")
    assert found(tmp_path)["forwarding"][2] == "sysctl net.ipv4.ip_forward=1"
