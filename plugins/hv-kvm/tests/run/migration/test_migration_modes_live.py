"""Migrations of real guests in other modes, with other capabilities, and of QEMUs that are confined less."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moved import Side, move
from world import PATIENCE_S, World

import hvcore

pytestmark = [pytest.mark.live, pytest.mark.slow]

SLOW_BPS = 1 << 16
ACTIVE = frozenset({hvcore.TransferState.ACTIVE})
POSTCOPY = frozenset({hvcore.TransferState.POSTCOPY_ACTIVE})


@pytest.fixture
def begun(sides: tuple[Side, Side]) -> Callable[..., tuple[Side, Side]]:
    """``begun(confinement="off")``: two nodes, with such a guest that runs on the first."""

    def make(**params: Any) -> tuple[Side, Side]:
        sides[0].world.start(paused=True, **params)
        sides[0].world.booted()
        return sides

    return make


def runs(side: Side) -> None:
    """The guest runs here, and hears its power button."""
    assert side.world.info().state is hvcore.State.RUNNING
    assert side.world.node.stop("web1", deadline_s=PATIENCE_S).stopped_by == "powerdown"


@pytest.mark.parametrize(
    "params",
    [
        {"confinement": "off"},
        {"confinement": "user"},
        {"migration_caps": ["multifd"]},
        {"migration_caps": ["xbzrle", "auto-converge"]},
        {"confinement": "off", "migration_caps": ["multifd"]},
        {"machine_version": "q35", "serial_console": True, "vnc_bind_address": "127.0.0.1"},
    ],
    ids=["off", "user", "multifd", "xbzrle", "multifd-off", "q35-vnc"],
)
def test_there_and_back(begun: Callable[..., tuple[Side, Side]], params: dict[str, Any]) -> None:
    one, other = begun(**params)
    move(one, other, host="::1")
    move(other, one, host="")
    runs(one)


@pytest.mark.usefixtures("root")
def test_postcopy_runs_on_the_target_before_its_memory_is_there(begun: Callable[..., tuple[Side, Side]]) -> None:
    one, other = begun(confinement="off")
    assert other.refusals(one.offer(), mode="postcopy") == []
    one.send(other.land(one, mode="postcopy"), "postcopy", bandwidth_bps=SLOW_BPS)
    with pytest.raises(hvcore.OperationError, match="cannot switch to postcopy"):
        other.does("switch_to_postcopy")
    one.until(ACTIVE)
    one.does("switch_to_postcopy")
    one.does("switch_to_postcopy")  # again: nothing happens
    other.until(POSTCOPY | {hvcore.TransferState.COMPLETED})
    assert not one.transfer().cpus_run
    with pytest.raises(hvcore.OperationError, match="runs on the target since the switch"):
        one.does("cancel_transfer")
    assert one.transfer().state not in {hvcore.TransferState.CANCELLED, hvcore.TransferState.FAILED}
    other.run_landed()
    assert one.until().state is hvcore.TransferState.COMPLETED
    with pytest.raises(hvcore.OperationError, match="runs on the target since the switch"):
        one.does("cancel_transfer")
    one.end()
    runs(other)


def test_postcopy_is_refused_where_qemu_cannot_see_its_faults(begun: Callable[..., tuple[Side, Side]]) -> None:
    one, other = begun()
    if Path("/proc/sys/vm/unprivileged_userfaultfd").read_text().strip() == "1":
        pytest.skip("this node allows it for every user: sysctl vm.unprivileged_userfaultfd")
    (problem,) = other.refusals(one.offer(), mode="postcopy")
    assert "needs userfaultfd" in problem
    one.send(other.land(one), "live")
    one.until()
    other.run_landed()


def test_capabilities_that_do_not_work_here_are_refused(begun: Callable[..., tuple[Side, Side]]) -> None:
    one, other = begun(migration_caps=["multifd", "zero-copy-send", "switchover-ack"])
    problems = other.refusals(one.offer())
    assert any("zero-copy-send is not possible: the stream goes through a relay" in text for text in problems)
    assert len(problems) == 1 or any("switchover-ack is not known to this QEMU" in text for text in problems)


def test_a_long_run_directory_is_no_obstacle(tmp_path: Path, worlds: Callable[..., World]) -> None:
    sides = []
    for name in ("one", "other"):
        place = tmp_path / name / ("x" * 60) / ("y" * 60)
        place.mkdir(parents=True)
        for folder in (place, place.parent, place.parent.parent):
            os.chmod(folder, 0o711)
        sides.append(Side(worlds(place)))
    one, other = sides
    one.world.start(paused=True, confinement="off")
    one.world.booted()
    move(one, other)
    runs(other)


def test_processors_and_disks_that_came_while_it_ran_move_too(begun: Callable[..., tuple[Side, Side]]) -> None:
    one, other = begun(vcpus_max=3)
    assert one.world.node.resize_vcpus("web1", 2, deadline_s=PATIENCE_S).reached
    late = hvcore.Disk(path=one.world.disk("late.img"))
    one.world.node.attach("web1", late, deadline_s=PATIENCE_S)
    move(one, other)
    assert other.world.info().vcpus == 2


def test_a_device_that_qemu_cannot_move_is_named(begun: Callable[..., tuple[Side, Side]]) -> None:
    one, other = begun(kvm_extra="-drive id=n,if=none,driver=null-co,size=1M -device nvme,id=nvme0,drive=n,serial=1")
    offer = one.offer()
    assert any("nvme" in reason for reason in offer.blockers)
    assert any("cannot move while it runs" in problem and "nvme" in problem for problem in other.refusals(offer))
