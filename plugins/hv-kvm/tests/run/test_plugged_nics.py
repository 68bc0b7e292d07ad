"""NICs of each mode that come and go while the guest runs, in network namespaces of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from empty_network import NEEDS_ROOT
from nic_modes import NIC_MODES, ModeNetwork, mode_network
from world import World

import hvcore
from hv_kvm.qmp import plugging, reach

pytestmark = [pytest.mark.live, NEEDS_ROOT, pytest.mark.parametrize("mode", NIC_MODES)]


@pytest.fixture
def prepared(mode: str, world: World, tmp_path: Path) -> Iterator[ModeNetwork]:
    with mode_network(mode, tmp_path) as network:
        yield network
        for info in world.node.instances():
            world.node.stop(info.name, force=True)
        assert network.leftovers() == []


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


def test_a_nic_that_qemu_refuses_leaves_nothing(mode: str, prepared: ModeNetwork, world: World) -> None:
    world.start()
    with reach(world.dir(), 30.0) as client:  # QEMU refuses a second device with that MAC in its place
        for slot in range(12, 31):
            if slot not in plugging.pci_slots(client):
                by_hand = {"driver": "virtio-rng-pci", "id": f"hand{slot}", "bus": "pci.0", "addr": hex(slot)}
                client.execute("device_add", by_hand)
    before = world.record()
    with pytest.raises(hvcore.VerifyError, match="does not fit"):
        world.node.attach("web1", prepared.nics[0], params=prepared.params, deadline_s=300)
    assert world.record() == before
    assert prepared.leftovers() == []
