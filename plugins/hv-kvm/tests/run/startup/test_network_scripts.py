"""Guests whose NICs are connected by scripts, in a network namespace of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from connected import MACS, connected
from empty_network import NEEDS_ROOT, Network, empty_network
from world import World

import hvcore

pytestmark = [pytest.mark.live, NEEDS_ROOT]


@pytest.fixture
def net() -> Iterator[Network]:
    with empty_network() as network:
        network.bridge()
        yield network


def ran(world: World) -> list[str]:
    """What each script did: ``up ext``."""
    file = world.root / "ran"
    lines = file.read_text().splitlines() if file.exists() else []
    return [f"{line.split()[0]} {line.split()[2]}" for line in lines]


def test_scripts_connect_before_the_guest_runs_and_disconnect_after_its_end(net: Network, world: World) -> None:
    world.start(**connected("ext", world.root))
    taps = net.links() - {"br0"}
    assert all("master br0" in net.about(tap) for tap in taps)
    assert {one.name for one in world.info().interfaces} == taps
    assert ran(world) == ["up ext", "up ext"]
    outcome = world.node.stop("web1", force=True)
    assert ran(world) == ["up ext", "up ext", "down ext", "down ext"]
    assert (outcome.notes, net.links(), world.leftovers()) == ((), {"br0"}, [])


def test_a_script_runs_in_place_of_what_hvcore_does(net: Network, world: World) -> None:
    net.bridge("br1")
    given = connected("bridged by script", world.root, MACS[:1])
    up = Path(given["network_up_script"])
    up.write_text(up.read_text().replace('"$LINK"', "br1"))
    with pytest.raises(hvcore.OperationError, match=r"params\.network_up_script: .* is not a port of bridge br0"):
        world.start(**given)
    assert ran(world) == ["up bridged", "down bridged"]
    assert (net.links(), world.node.instances()) == ({"br0", "br1"}, [])


def test_the_scripts_of_a_guest_that_was_killed_run_once(net: Network, world: World) -> None:
    world.start(**connected("ext", world.root, MACS[:1]))
    world.kill()
    assert ran(world) == ["up ext"]
    world.node.recover()
    world.node.cleanup("web1")
    assert ran(world) == ["up ext", "down ext"]
    assert world.leftovers() == []


def test_a_failure_to_disconnect_is_a_note_of_the_stop_and_keeps_nothing(net: Network, world: World) -> None:
    given = connected("ext", world.root, down="echo no such route >&2; exit 7")
    world.start(**given)
    outcome = world.node.stop("web1", force=True)
    assert len(outcome.notes) == 2
    assert all(note.endswith('exited with 7: "no such route"') for note in outcome.notes)
    assert given["network_down_script"] in outcome.notes[0]
    assert (outcome.changed, world.leftovers(), net.links()) == (True, [], {"br0"})


def test_a_reboot_disconnects_and_connects_with_the_scripts_of_now(net: Network, world: World) -> None:
    given = connected("ext", world.root, MACS[:1])
    world.pressable(**given)
    world.node.reboot("web1")
    assert ran(world) == ["up ext", "down ext", "up ext"]


def test_what_is_wrong_with_a_script_is_refused_before_anything_is_made(net: Network, world: World) -> None:
    given = connected("ext", world.root)
    Path(given["network_up_script"]).chmod(0o644)
    with pytest.raises(
        hvcore.VerifyError, match=r"params\.network_up_script: is not executable, got .*; use chmod \+x"
    ):
        world.start(**given)
    assert net.links() == {"br0"}


def test_a_plan_says_what_the_scripts_do(net: Network, world: World) -> None:
    given = connected("ext", world.root, MACS[:1])
    steps = [step.what for step in world.kvm.plan(world.instance(**given)).steps]
    assert f"{given['network_up_script']} connects nic0.tap (mode ext)" in steps
    assert f"{given['network_down_script']} disconnects nic0.tap, after the instance has ended" in steps
