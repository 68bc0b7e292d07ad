"""NICs of each mode that come and go while the guest runs, in network namespaces of the test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from connected import MACS, connected
from empty_network import NEEDS_ROOT, Network, empty_network
from nic_modes import NEEDS_PASST, NIC_MODES, ModeNetwork, mode_network
from world import World

import hvcore
from hv_kvm.machine.option import Opt
from hv_kvm.qmp import QmpClient, plugging, reach
from hvcore.operations.devices import change
from hvcore.plugins.loaded_driver import LoadedDriver

pytestmark = [pytest.mark.live, NEEDS_ROOT]

_BY_DEFAULT: Final = ("bridged", "user with forwards and egress")
SAMPLE: Final = [mode for mode in NIC_MODES if mode.values[0] in _BY_DEFAULT]
OTHERS: Final = [
    pytest.param(*mode.values, marks=(*mode.marks, pytest.mark.slow)) for mode in NIC_MODES if mode not in SAMPLE
]


@pytest.fixture
def prepared(mode: str, world: World, tmp_path: Path) -> Iterator[ModeNetwork]:
    with mode_network(mode, tmp_path) as network:
        yield network
        for info in world.node.instances():
            world.node.stop(info.name, force=True)
        assert network.leftovers() == []


@pytest.fixture
def net_of_test(world: World) -> Iterator[Network]:
    with empty_network() as network:
        network.bridge()
        yield network
        for info in world.node.instances():
            world.node.stop(info.name, force=True)


@pytest.mark.parametrize("mode", [*SAMPLE, *OTHERS])
def test_a_nic_comes_and_goes_with_everything_that_belongs_to_it_on_the_node(
    mode: str, prepared: ModeNetwork, world: World
) -> None:
    world.start(paused=True, disks=[world.disk(lets_go=True)])
    world.booted()
    before = [entry.key for entry in world.record().ledger]
    for number, nic in enumerate(prepared.nics):
        outcome = world.node.attach("web1", nic, params=prepared.params, deadline_s=300)
        assert (outcome.changed, outcome.device) == (True, f"nic{number}")
    with_both = prepared.leftovers()
    assert len(world.info().nics) == 2
    with reach(world.dir(), 30.0) as client:
        assert {"nic0-dev", "nic1-dev"} <= plugging.devices(client)
    assert world.node.detach("web1", "nic0", deadline_s=300).changed
    assert world.info().devices == {"disk0": "disks[0]", "nic1": "nics[0]"}
    assert [nic.mac for nic in world.info().nics] == [prepared.nics[1].mac]
    if not mode.startswith("user"):
        assert [one.nic for one in world.info().interfaces] == [0]
    assert world.node.attach("web1", prepared.nics[0], params=prepared.params, deadline_s=300).device == "nic0"
    assert len(prepared.leftovers()) == len(with_both)
    for name in ("nic0", "nic1"):
        world.node.detach("web1", name, deadline_s=300)
    assert [entry.key for entry in world.record().ledger] == before
    assert prepared.leftovers() == []


@pytest.mark.parametrize("mode", SAMPLE[1:])
def test_a_nic_that_qemu_refuses_leaves_nothing(
    prepared: ModeNetwork, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = plugging.add

    def in_a_slot_that_is_taken(client: QmpClient, option: Opt, name: str, *, deadline_s: float) -> None:
        taken = {**option.props, "addr": "0x1"} if option.name == "-device" else option.props
        add(client, replace(option, props=taken), name, deadline_s=deadline_s)

    world.start()
    before = world.record()
    monkeypatch.setattr(plugging, "add", in_a_slot_that_is_taken)
    with pytest.raises(hvcore.OperationError, match="slot 1 function 0"):
        world.node.attach("web1", prepared.nics[0], params=prepared.params, deadline_s=300)
    after = world.record()
    assert replace(after, bindings=before.bindings) == before
    assert prepared.leftovers() == []


@NEEDS_PASST
def test_the_networks_of_other_nics_stay_as_they_are_whatever_is_installed_now(own_net: None, world: World) -> None:
    world.start(nics=[hvcore.Nic(mode="user")], user_network="slirp")
    before = world.record().spec["devices"]
    record = world.record()
    unset = {key: value for key, value in record.spec.items() if key != "devices"}
    freed = [
        {**one, "backend": {**one["backend"], "wanted": None}} if one["kind"] == "UserNic" else one for one in before
    ]
    world.save(replace(record, spec={**unset, "devices": freed}))
    world.node.attach("web1", hvcore.Disk(path=world.disk("more.img")), deadline_s=300)
    assert world.record().spec["devices"][: len(freed)] == freed


def test_a_guest_with_every_slot_taken_gets_no_more(world: World) -> None:
    world.start()
    with reach(world.dir(), 30.0) as client:
        for slot in sorted(set(range(12, 31)) - plugging.pci_slots(client)):
            by_hand = {"driver": "virtio-rng-pci", "id": f"hand{slot}", "bus": "pci.0", "addr": hex(slot)}
            client.execute("device_add", by_hand)
    before = world.record()
    with pytest.raises(hvcore.VerifyError, match="does not fit: more PCI devices than the 19 slots"):
        world.node.attach("web1", hvcore.Disk(path=world.disk("more.img")), deadline_s=300)
    assert world.record() == before


def taps_of(pid: int) -> int:
    """How many descriptors of taps the process has open."""
    found = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return found.count("/dev/net/tun")


@pytest.mark.parametrize("queues", [1, 4])
@pytest.mark.parametrize("mode", ["bridged"])
def test_an_interrupted_plug_leaves_no_descriptor_in_qemu(
    prepared: ModeNetwork, world: World, monkeypatch: pytest.MonkeyPatch, queues: int
) -> None:
    """The caller is interrupted when QEMU has all descriptors by names, and no network back end that uses them."""
    world.start()
    given, execute = [], QmpClient.execute

    def interrupted(self: QmpClient, command: str, *arguments: Any, **more: Any) -> Any:
        if command == "netdev_add":
            given.append(taps_of(world.pid()))
            raise KeyboardInterrupt
        return execute(self, command, *arguments, **more)

    monkeypatch.setattr(QmpClient, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.node.attach("web1", prepared.nics[0], params={"virtio_net_queues": queues}, deadline_s=300)
    assert given == [queues]
    assert taps_of(world.pid()) == 0
    assert (world.record().change, prepared.leftovers()) == (None, [])
    monkeypatch.undo()
    assert world.node.attach("web1", prepared.nics[0], params={"virtio_net_queues": queues}, deadline_s=300).changed
    assert taps_of(world.pid()) == queues


def test_a_cable_that_an_interrupted_plug_has_not_pulled_out_is_pulled_out(
    net_of_test: Network, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.start()
    said: list[str] = []

    def set_link(client: QmpClient, nic: str, *, up: bool, deadline_s: float) -> None:
        said.append(f"{nic} {up}")
        if len(said) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(plugging, "set_link", set_link)
    nic = hvcore.Nic(mode="bridged", link="br0", connected=False)
    with pytest.raises(KeyboardInterrupt):
        world.node.attach("web1", nic, deadline_s=300)
    assert said == ["nic0-dev False"] * 2
    assert [one.connected for one in world.info().nics] == [False]


def test_the_first_of_three_nics_goes_and_a_stop_disconnects_each_of_the_others_once(
    net_of_test: Network, world: World
) -> None:
    macs = (*MACS, "aa:00:00:4b:c1:03")
    given = connected("ext", world.root, macs, down=f'echo "$INTERFACE $MAC" >> {world.root}/downs')
    world.start(paused=True, disks=[world.disk(lets_go=True)], **given)
    world.booted()
    taps = {entry.key: entry.data["name"] for entry in world.record().ledger if entry.kind == "tap"}
    assert world.node.detach("web1", "nic0", deadline_s=300).changed
    downs = world.root / "downs"
    assert downs.read_text().splitlines() == [f"{taps['nic0.tap']} {macs[0]}"]
    assert net_of_test.links() == {"br0", taps["nic1.tap"], taps["nic2.tap"]}
    assert [nic.mac for nic in world.info().nics] == [*macs[1:]]
    world.node.stop("web1", force=True)
    assert sorted(downs.read_text().splitlines()[1:]) == sorted(
        f"{taps[f'nic{number}.tap']} {macs[number]}" for number in (1, 2)
    )
    assert net_of_test.links() == {"br0"}


def test_a_nic_that_the_guest_lets_go_while_its_detach_is_settled_is_plugged_again(
    net_of_test: Network, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller of the detach was killed. Recovery finds the NIC, then the guest lets it go, and then it is plugged again."""
    world.start(paused=True, disks=[world.disk(lets_go=True)])
    world.booted()
    world.node.attach("web1", hvcore.Nic(mode="bridged", link="br0"), deadline_s=300)
    before = world.record()

    def killed(client: QmpClient, device: str, **more: Any) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(plugging, "let_go", killed)
    monkeypatch.setattr(change, "_settled_after", lambda *_given: False)
    with pytest.raises(KeyboardInterrupt):
        world.node.detach("web1", "nic0", deadline_s=300)
    monkeypatch.undo()
    altered: Callable[..., bool] = LoadedDriver.altered

    def gone_since(self: LoadedDriver, *given: Any, **more: Any) -> bool:
        found = altered(self, *given, **more)
        with reach(world.dir(), 30.0) as client:
            assert plugging.let_go(client, "nic0-dev", left_s=lambda: 300.0)
        return found

    monkeypatch.setattr(LoadedDriver, "altered", gone_since)
    (found,) = world.node.recover()
    assert found.what == "undone", found
    monkeypatch.undo()
    with reach(world.dir(), 30.0) as client:
        assert "nic0-dev" in plugging.devices(client)
    after = world.record()
    assert sorted(entry.key for entry in after.ledger) == sorted(entry.key for entry in before.ledger)
    assert taps_of(world.pid()) == 1
    assert world.node.detach("web1", "nic0", deadline_s=300).changed
    assert net_of_test.links() == {"br0"}


def test_a_nic_of_the_start_comes_back_with_its_address_and_others_may_have_it_meanwhile(
    net_of_test: Network, world: World
) -> None:
    nic = hvcore.Nic(mode="bridged", link="br0", mac=MACS[0])
    world.start(paused=True, disks=[world.disk(lets_go=True)], nics=[nic])
    world.booted()
    with pytest.raises(hvcore.HvError, match="is taken"):
        world.start("web2", nics=[nic])
    assert world.node.detach("web1", "nic0", deadline_s=300).changed
    assert world.start("web2", nics=[nic]).changed
    with pytest.raises(hvcore.VerifyError, match="is taken by instance web2"):
        world.node.attach("web1", nic, deadline_s=300)
    world.node.stop("web2", force=True)
    assert world.node.attach("web1", nic, deadline_s=300).changed
