"""Another client uses a guest's monitor, or its state was removed: the guest is not killed for that, and still listed."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from world import World

import hvcore.plugin
from hv_kvm.qmp import connect
from hvcore import State
from hvcore.model.record import Phase
from hvcore.state.store import Store

pytestmark = pytest.mark.live


def test_a_polite_stop_stays_polite_while_another_client_uses_the_monitor(world: World) -> None:
    world.start()
    with connect(str(world.dir() / "qmp")):
        assert world.node.stop("web1", deadline_s=300).stopped_by == "powerdown"


def test_an_operation_with_the_first_monitor_in_use_has_time_left_for_the_second(world: World) -> None:
    world.start()
    with connect(str(world.dir() / "qmp")):
        assert world.node.pause("web1", deadline_s=6.0).state is State.PAUSED
        assert world.node.resume("web1", deadline_s=6.0).state is State.RUNNING


def test_an_interrupted_start_is_not_undone_because_its_monitors_are_held(world: World) -> None:
    world.start()
    store = Store(world.run_dir)
    record = world.record()
    with connect(str(world.dir() / "qmp")), connect(str(world.dir() / "qmp-oob")):
        store.save(replace(record, phase=Phase.STARTING, process=None, monitor=None))
        results = {result.name: result.what for result in world.node.recover(deadline_s=1)}
        assert results == {"web1": "failed"}
        assert hvcore.plugin.alive(record.process) if record.process else False
    assert {result.what for result in world.node.recover()} == {"finished"}
    assert world.info().state is State.RUNNING


def test_a_guest_whose_directory_was_wiped_is_still_listed_and_can_be_ended(root: None, world: World) -> None:
    world.start()
    process = world.record().process
    assert process is not None
    shutil.rmtree(world.dir())
    assert [(info.name, info.state) for info in world.node.instances()] == [("web1", State.UNKNOWN)]
    outcome = world.node.stop("web1", force=True)
    assert outcome.changed
    assert hvcore.plugin.wait_gone(process, 5.0)
    assert world.node.instances() == []
    world.start("web2", disks=[str(world.root / "web1.img")])
