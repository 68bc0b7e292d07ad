"""Guests with two NICs of each mode, in network namespaces of the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from connected import MODES
from empty_network import NEEDS_ROOT
from nic_modes import NIC_MODES, ModeNetwork, mode_network
from world import World

import hvcore

# test_bridged.py and test_network_scripts.py have the others.
OF_HERE = [mode for mode in NIC_MODES if mode.values[0] not in MODES]
pytestmark = [pytest.mark.live, NEEDS_ROOT]
EACH = pytest.mark.parametrize("mode", OF_HERE)

NO_CAPABILITIES = tuple(f"{name}:\t{0:016x}" for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))


@pytest.fixture
def prepared(mode: str, world: World, tmp_path: Path) -> Iterator[ModeNetwork]:
    with mode_network(mode, tmp_path) as network:
        yield network
        for info in world.node.instances():
            world.node.stop(info.name, force=True)
        assert network.leftovers() == []


def given(network: ModeNetwork, **more: Any) -> dict[str, Any]:
    return {"nics": network.nics, **network.params, **more}


def always(*names: str) -> pytest.MarkDecorator:
    """These modes in the default run, and the others with the slow tests."""
    found = []
    for mode in OF_HERE:
        named = str(mode.values[0]).startswith(names)
        found.append(mode if named else pytest.param(*mode.values, marks=[*mode.marks, pytest.mark.slow]))
    return pytest.mark.parametrize("mode", found)


@EACH
def test_a_guest_that_takes_over_its_qemu_has_no_capability_and_no_network_of_the_node(
    mode: str, prepared: ModeNetwork, world: World
) -> None:
    """The attack test of a NIC: what QEMU has is all that a guest can get."""
    world.start(**given(prepared))
    links = {one.nic for one in world.info().interfaces}  # a user network has none on the node
    assert len(links) == (0 if mode.startswith("user") else 2)
    pid = world.pid()
    assert Path(f"/proc/{pid}/net/dev").read_text().count(":") == 1  # lo
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/thread-self/ns/net")
    status = Path(f"/proc/{pid}/status").read_text()
    assert all(line in status for line in NO_CAPABILITIES)
    assert "NoNewPrivs:\t1" in status
    world.node.stop("web1", force=True)
    assert prepared.leftovers() == []


@always("openvswitch", "user")
def test_a_guest_that_was_killed_holds_its_links_until_it_is_cleaned_up_and_a_reboot_makes_them_again(
    prepared: ModeNetwork, world: World
) -> None:
    world.start(**given(prepared))
    world.kill()
    world.node.cleanup("web1")
    assert prepared.leftovers() == []
    world.pressable("web1", **given(prepared))
    names = prepared.leftovers()
    world.node.reboot("web1")
    assert prepared.leftovers() == names


@always("macvtap", "user")
def test_a_start_that_fails_leaves_nothing(prepared: ModeNetwork, world: World) -> None:
    with pytest.raises(hvcore.LaunchError):
        world.start(**given(prepared, kvm_extra="-device no-such-device"))
    assert prepared.leftovers() == []


@always("openvswitch", "user")
def test_a_second_start_with_the_same_mac_or_ports_is_refused_and_disturbs_nothing(
    mode: str, prepared: ModeNetwork, world: World
) -> None:
    world.start(**given(prepared))
    names = prepared.leftovers()
    taken = r"forward\[0\]: is in use by another" if mode.startswith("user") else "mac: is taken by instance web1"
    with pytest.raises(hvcore.VerifyError, match=rf"nics\[0\]\.{taken}"):
        world.start("web2", **given(prepared))
    assert prepared.leftovers() == names
