"""The balloon of real guests: one that obeys, and one without a driver for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from linux_guest import guest_params, linux_guests
from world import PATIENCE_S, World, unreached

import hvcore
from hv_kvm.qmp import connect, size_commands

pytestmark = pytest.mark.live

MIB = 1 << 20


def test_a_guest_that_does_not_obey_is_said_to_have_more(world: World) -> None:
    world.start()
    outcome = unreached(world.node.balloon, "web1", 16)
    assert (outcome.asked, outcome.before, outcome.after, outcome.reached) == (16, 32, 32, False)
    assert str(outcome).startswith("web1: asked for 16 MiB, has 32 MiB after ")
    assert world.info().details["balloon_mib"] == 16
    with pytest.raises(hvcore.InputError, match="at most its memory of 32 MiB, got 33"):
        world.node.balloon("web1", 33)
    world.node.pause("web1")
    with pytest.raises(hvcore.StateError, match="cannot balloon while paused"):
        world.node.balloon("web1", 16)
    world.node.resume("web1")
    assert world.node.balloon("web1", 32, deadline_s=PATIENCE_S).reached
    assert "balloon_mib" not in world.info().details


def test_without_a_balloon_it_is_refused(world: World) -> None:
    world.start(memory_balloon=False)
    with pytest.raises(hvcore.OperationError, match=r"web1: has no balloon, .*; set it to true, then stop and start"):
        world.node.balloon("web1", 16)
    assert world.node.usage(deadline_s=PATIENCE_S)[0].problem is None


def test_a_monitor_that_another_program_holds_is_left_to_it(world: World) -> None:
    world.start()
    with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S):
        assert not unreached(world.node.balloon, "web1", 16).reached


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_linux_guest_gives_memory_back_reports_it_and_keeps_that_over_a_reboot(world: World) -> None:
    params = guest_params(world.root, "virtio_pci", "virtio_balloon") | {"memory_stats_interval": 1}
    instance = replace(world.instance(disks=[]), memory_mib=256, params=params)
    with linux_guests(world.node, instance) as (guest,):
        total = int(guest.run("grep MemTotal /proc/meminfo").split()[1])
        outcome = world.node.balloon("web1", 160, deadline_s=PATIENCE_S)
        assert (outcome.reached, outcome.before) == (True, 256)
        assert int(guest.run("grep MemTotal /proc/meminfo").split()[1]) <= total - 95 * 1024
        (found,) = world.node.usage(deadline_s=PATIENCE_S)
        assert (found.memory_mib, found.problem) == (160, None)
        assert not world.node.balloon("web1", 160, deadline_s=PATIENCE_S).changed
    world.node.reboot("web1", force=True, deadline_s=PATIENCE_S)
    with connect(str(world.dir() / "qmp"), deadline_s=PATIENCE_S) as client:
        size_commands.query_balloon(client, deadline_s=PATIENCE_S)
        # The guest has to reach the size by itself while it boots.
        while size_commands.query_balloon(client, deadline_s=PATIENCE_S) != 160 * MIB:
            client.wait_event("BALLOON_CHANGE", deadline_s=PATIENCE_S)
    assert world.info().details["balloon_mib"] == 160
