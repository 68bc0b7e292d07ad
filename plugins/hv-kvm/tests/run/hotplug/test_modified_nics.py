"""Settings of NICs that change while the guest runs: the cable, the bridge and its VLAN, the limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from world import World

import hvcore
from hv_kvm.qmp import QmpClient, QmpCommandError, plugging, reach
from hvcore import Nic
from hvcore.host.network.links import port_vlans, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.traffic_control import limits_at, transmit_limit
from hvcore.model.record import Change, Phase
from hvcore.resources.bandwidth import BandwidthKind
from hvcore.resources.bridge_port import BridgePortKind

pytestmark = [pytest.mark.live, NEEDS_ROOT]

NIC = Nic(mode="bridged", link="br0", mac="aa:00:00:4b:c1:01")
BOTH = {"bandwidth_to_guest": "8M", "bandwidth_from_guest": "16M"}


@pytest.fixture
def net(world: World) -> Iterator[Network]:
    """Two bridges; ``br1`` has another MTU."""
    with empty_network() as network:
        network.bridge()
        network.bridge("br1", "mtu", "1400")
        before = network.links()
        yield network
        for info in world.node.instances():
            world.node.stop(info.name, force=True)
        assert network.links() == before


def modify(world: World, **values: Any) -> hvcore.Outcome:
    return world.node.modify("web1", "nic0", values, deadline_s=300)


def tap(world: World) -> str:
    (name,) = (entry.data["name"] for entry in world.record().ledger if entry.kind == "tap")
    assert isinstance(name, str)
    return name


def seen(world: World, net: Network) -> dict[str, Any]:
    """What the node has of the NIC: the bridge and MTU of its tap, its limits in bits per second, what the ledger lists."""
    name = tap(world)
    ledger = {entry.key: entry for entry in world.record().ledger if entry.key.startswith("nic0")}
    limits = ledger.get("nic0.limits")
    with Netlink() as netlink:
        link = the_link(netlink, name)
        rates = [transmit_limit(netlink, link.index)]
        if limits is not None and limits.data["ifb"] in net.links():
            rates.append(transmit_limit(netlink, the_link(netlink, limits.data["ifb"]).index))
        bridge = the_link(netlink, link.master).name if link.master else None
        kinds = limits_at(netlink, link.index) & {"tbf", "ingress"}
    return {
        "bridge": bridge,
        "mtu": link.mtu,
        "up": link.up,
        "rates": rates,
        "limits": kinds,
        "links": net.links(),
        "ledger": set(ledger),
    }


def test_limits_come_change_and_go_and_a_reboot_keeps_them(world: World, net: Network) -> None:
    world.start(nics=[NIC])
    before = seen(world, net)
    assert world.node.modifiable("web1", "nic0") == (
        "link",
        "vlan",
        "bandwidth_to_guest",
        "bandwidth_from_guest",
        "connected",
    )
    outcome = modify(world, **BOTH)
    assert (outcome.changed, outcome.device, str(outcome.op)) == (True, "nic0", "modify")
    assert seen(world, net)["rates"] == [1_000_000, 2_000_000]
    assert not modify(world, bandwidth_to_guest=8_000_000).changed
    assert modify(world, bandwidth_to_guest="24M", bandwidth_from_guest=None).changed
    assert (seen(world, net)["rates"], len(net.links())) == ([3_000_000], 3)
    world.node.reboot("web1", force=True, deadline_s=300)
    assert seen(world, net)["rates"] == [3_000_000]
    assert world.info().nics[0].bandwidth_to_guest == 24_000_000
    assert modify(world, bandwidth_to_guest="").changed
    assert {**seen(world, net), "links": 0} == {**before, "links": 0}


def test_the_tap_moves_to_another_bridge_and_a_reboot_keeps_it(world: World, net: Network) -> None:
    world.start(nics=[NIC])
    name = tap(world)
    assert modify(world, link="br1", bandwidth_to_guest="8M").changed
    found = seen(world, net)
    assert (found["bridge"], found["mtu"], found["up"], tap(world)) == ("br1", 1400, True, name)
    assert world.info().nics == (replace(NIC, link="br1", bandwidth_to_guest=8_000_000),)
    world.node.reboot("web1", force=True, deadline_s=300)
    assert seen(world, net)["bridge"] == "br1"


def test_what_the_node_cannot_do_is_refused_and_nothing_changes(world: World, net: Network) -> None:
    world.start(nics=[NIC])
    record, before = world.record(), seen(world, net)
    with pytest.raises(hvcore.VerifyError, match=r"\n  link: does not exist on this node, got 'br9'"):
        modify(world, link="br9")
    with pytest.raises(hvcore.VerifyError, match=r"\n  vlan: needs a bridge that filters VLANs"):
        modify(world, vlan=10)
    with pytest.raises(hvcore.OperationError, match=r"nic0: mode, ip, mtu cannot change while it runs \(link, vlan, "):
        modify(world, mode="routed", mtu=1400, ip="192.0.2.7", link="")
    with pytest.raises(hvcore.ParamsError, match=r"(?s)\n  brdge: unknown key.*\n  bandwidth_to_guest: "):
        modify(world, brdge="br1", bandwidth_to_guest="fast")
    with pytest.raises(hvcore.ParamsError, match=r"\n  link: is not set, and mode 'bridged' needs a link"):
        modify(world, link=None)
    with pytest.raises(hvcore.OperationError, match="disk0: cache cannot change while it runs"):
        world.node.modify("web1", "disk0", {"cache": "none"})
    with pytest.raises(hvcore.InputError, match="has no device 'nic1'"):
        world.node.modify("web1", "nic1", {"connected": False})
    assert (world.record(), seen(world, net)) == (record, before)


@pytest.mark.parametrize("kind", [BridgePortKind, BandwidthKind])
def test_the_old_port_is_back_when_the_new_one_fails(
    world: World, net: Network, kind: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start(nics=[replace(NIC, bandwidth_to_guest=8_000_000)])
    record, before = world.record(), seen(world, net)
    acquire = kind.acquire

    def refused(self: Any, resource: Any, held: Any) -> None:
        if getattr(resource, "bridge", resource.to_guest if kind is BandwidthKind else "") in ("br1", 16_000_000):
            raise hvcore.OperationError(f"{held.owner.name}: the kernel refuses it")
        acquire(self, resource, held)

    monkeypatch.setattr(kind, "acquire", refused)
    with pytest.raises(hvcore.OperationError, match="the kernel refuses it"):
        modify(world, link="br1", bandwidth_to_guest="16M", bandwidth_from_guest="16M")
    assert seen(world, net) == before
    after = world.record()
    assert (after.phase, after.change, after.instance, after.spec) == (
        Phase.RUNNING,
        None,
        record.instance,
        record.spec,
    )


@pytest.mark.parametrize("step", ["nothing done", "given back", "all but the record"])
def test_an_interrupted_change_is_finished_or_undone(world: World, net: Network, step: str) -> None:
    world.start(nics=[replace(NIC, bandwidth_to_guest=8_000_000)])
    before, old = world.record(), seen(world, net)
    modify(world, link="br1", bandwidth_to_guest="16M", bandwidth_from_guest="16M")
    after, new = world.record(), seen(world, net)
    ledger = after.ledger
    if step != "all but the record":
        modify(world, link="br0", bandwidth_to_guest="8M", bandwidth_from_guest="")
        ledger = world.record().ledger
    if step == "given back":
        net.ip("link", "set", tap(world), "nomaster")
    change = Change(
        op="modify",
        device="nic0",
        instance=after.instance,
        spec=after.spec,
        params=after.params,
        devices=after.devices,
    )
    world.save(replace(before, phase=Phase.CHANGING, change=change, ledger=ledger))
    (found,) = world.node.recover()
    done = step == "all but the record"
    assert found.what == ("finished" if done else "undone"), found
    assert seen(world, net) == (new if done else old)
    assert world.record().instance == (after.instance if done else before.instance)
    assert world.node.recover() == []


@pytest.mark.parametrize("nic", [NIC, Nic(mode="user")], ids=["bridged", "user"])
def test_a_cable_is_pulled_out_and_stays_out_after_a_reboot(
    world: World, net: Network, nic: Nic, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, bool]] = []
    set_link = plugging.set_link

    def noted(client: QmpClient, name: str, *, up: bool, deadline_s: float) -> None:
        set_link(client, name, up=up, deadline_s=deadline_s)
        said.append((name, up))

    monkeypatch.setattr(plugging, "set_link", noted)
    world.start(nics=[nic], user_network="slirp")
    assert said == []
    assert modify(world, connected="false").changed
    assert not modify(world, connected=False).changed
    assert said == [("nic0-dev", False)]
    world.node.reboot("web1", force=True, deadline_s=300)
    assert said == [("nic0-dev", False)] * 2
    assert modify(world, connected=True).changed
    assert said[2:] == [("nic0-dev", True)]
    with reach(world.dir(), 30.0) as client, pytest.raises(QmpCommandError, match="not found"):
        set_link(client, "nic9-dev", up=True)


def test_a_nic_is_attached_without_its_cable(world: World, net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(plugging, "set_link", lambda _client, name, **_more: said.append(name))
    world.start()
    assert world.node.attach("web1", replace(NIC, connected=False), deadline_s=300).device == "nic0"
    assert said == ["nic0-dev"]


def test_a_vlan_is_read_back(world: World, net: Network) -> None:
    if not net.has_vlans():
        pytest.skip("the kernel has no VLAN filter of bridges")
    net.ip("link", "set", "br1", "type", "bridge", "vlan_filtering", "1")
    world.start(nics=[NIC])
    for vlan, found in (("10", (10, frozenset())), ("trunk:20,30-32", (None, frozenset({20, 30, 31, 32})))):
        assert modify(world, link="br1", vlan=vlan).changed
        with Netlink() as netlink:
            assert port_vlans(netlink, the_link(netlink, tap(world)).index) == found
    net.run("bridge", "vlan", "add", "dev", tap(world), "vid", "99")
    assert modify(world, link="br0", vlan="").changed
