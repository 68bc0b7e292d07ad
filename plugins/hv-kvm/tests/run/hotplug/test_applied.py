"""Changes of a definition that are made while the guest runs: devices, their settings, media and sizes, each with its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
from empty_network import NEEDS_ROOT, Network, empty_network
from world import World

import hvcore
from hv_kvm.qmp import plugging, reach
from hvcore import Disk, Nic

pytestmark = [pytest.mark.live, NEEDS_ROOT]

NIC = Nic(mode="bridged", link="br0", mac="aa:00:00:4b:c1:01")
PARAMS: Final[dict[str, Any]] = {"usb_devices": "tablet", "vcpus_max": 2, "memory_max": 64}


@pytest.fixture
def net(world: World) -> Iterator[Network]:
    with empty_network() as network:
        network.bridge()
        network.bridge("br1")
        yield network
        for info in world.node.instances():
            world.node.stop(info.name, force=True)


def test_everything_that_can_change_while_the_guest_runs_is_changed(world: World, net: Network) -> None:
    world.start(nics=[NIC], cdrom_image_path=world.disk("a.iso"), **PARAMS)
    running = world.node.instance("web1")
    defined = replace(
        running,
        memory_mib=48,
        vcpus=2,
        disks=(*running.disks, Disk(path=world.disk("more.img"))),
        nics=(replace(NIC, link="br1", bandwidth_to_guest=8_000_000),),
        params={**running.params, "usb_devices": "keyboard", "cdrom_image_path": world.disk("b.iso")},
    )
    assert {one.field: str(one.effect) for one in world.node.changes("web1", defined)} == dict.fromkeys(
        ("memory_mib", "vcpus", "disks[1]", "nics[0]", "params.cdrom_image_path", "params.usb_devices"), "now"
    )
    found = world.node.apply("web1", defined, deadline_s=20)
    assert [(str(one.op), one.device, one.error) for one in found] == [
        ("modify", "nic0", None),
        ("detach", "usb0", None),
        ("insert", "cdrom1", None),
        ("attach", "disk1", None),
        ("attach", "usb0", None),
        ("memory", None, None),
        ("vcpus", None, None),
    ]
    assert [one.done for one in found] == [True] * 5 + [False, True], "the guest has no driver for more memory"
    assert "master br1" in net.run("ip", "-d", "link")
    with reach(world.dir(), 30.0) as client:
        assert {"disk1-dev", "usb0-dev", "nic0-dev"} <= plugging.devices(client)
    left = world.node.changes("web1", defined)
    assert [one.field for one in left] == ["memory_mib"]


def test_without_a_maximum_sizes_wait_for_a_start(world: World, net: Network) -> None:
    world.start()
    running = world.node.instance("web1")
    defined = replace(running, memory_mib=48, vcpus=2, params={**running.params, "usb_devices": "tablet"})
    found = world.node.changes("web1", defined)
    assert {one.field: one.effect for one in found} == dict.fromkeys(
        ("memory_mib", "vcpus", "params.usb_devices"), hvcore.Effect.START
    )
    assert world.node.apply("web1", defined) == ()


def test_a_list_that_became_empty_can_be_filled_again(world: World, net: Network) -> None:
    world.start(usb_devices="tablet")
    running = world.node.instance("web1")
    assert world.node.detach("web1", "usb0").changed
    assert [one.effect for one in world.node.changes("web1", running)] == [hvcore.Effect.NOW]
    assert [(str(one.op), one.device) for one in world.node.apply("web1", running)] == [("attach", "usb0")]


def test_a_bridge_that_is_missing_stops_no_other_change(world: World, net: Network) -> None:
    world.start(nics=[NIC])
    running = world.node.instance("web1")
    more = Disk(path=world.disk("more.img"))
    defined = replace(running, disks=(*running.disks, more), nics=(replace(NIC, link="br9"),))
    wired, attached = world.node.apply("web1", defined, deadline_s=300)
    assert (str(wired.op), wired.device, wired.done) == ("modify", "nic0", False)
    assert isinstance(wired.error, hvcore.VerifyError)
    assert (attached.device, attached.done) == ("disk1", True)
    assert world.info().nics == (NIC,)
