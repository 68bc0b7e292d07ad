"""A guest that ends as soon as it runs has been started: the start and the resume do not fail, and its state says the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from distributions import installed
from world import World

import hvcore
from hv_kvm.qmp import QmpClosedError, commands, connect
from hv_kvm.run.startup.ready import let_run
from hvcore import State
from hvcore.plugin import Deadline

pytestmark = pytest.mark.live

PANICS: bytes = bytes.fromhex("faba0505b001eef4ebfd").ljust(510, b"\0") + b"\x55\xaa"  # out 0x505, 1; hlt

# Lets the guest run and waits for its end, so that QEMU has exited when the start lets it run.
EXTENSION = """
import hvcore.plugin as hv
import hv_kvm.plugin as kvm

@kvm.impl.on_ready
def on_ready(client, job):
    client.execute("cont", deadline_s=60)
    assert hv.wait_gone(job.record.process, 60)
"""


@pytest.fixture
def ends(world: World) -> dict[str, dict[str, Any]]:
    """How a guest ends by itself: what it is started with."""
    (panics := world.root / "panics.img").write_bytes(PANICS.ljust(1 << 20, b"\0"))
    return {
        "shut down": {"disks": [world.disk(exit_after_boot="poweroff")]},
        "reset": {"disks": [world.disk("reset.img", exit_after_boot="reboot")], "reboot_behavior": "exit"},
        "panicked": {"disks": [str(panics)], "kvm_extra": "-device pvpanic"},
        "panicked, an error": {"disks": [str(panics)], "kvm_extra": "-device pvpanic -action panic=exit-failure"},
    }


EACH = pytest.mark.parametrize("how", ["shut down", "reset", "panicked", "panicked, an error"])


@EACH
def test_a_guest_that_ended_before_it_is_asked_whether_it_runs_has_run(
    world: World, ends: dict[str, dict[str, Any]], how: str
) -> None:
    world.start(paused=True, **ends[how])
    with connect(str(world.dir() / "qmp"), deadline_s=60) as client:
        commands.cont(client, deadline_s=60)
        world.wait_ended(world.record())
        assert let_run(client, world.dir(), Deadline(60)) is None
    assert world.info().state is (State.CRASHED if how.startswith("panicked") else State.SHUTDOWN)


def test_a_qemu_that_somebody_ended_meanwhile_is_an_error(world: World) -> None:
    world.start(paused=True)
    with connect(str(world.dir() / "qmp"), deadline_s=60) as client:
        client.execute("quit", deadline_s=60)
        world.wait_ended(world.record())
        with pytest.raises(QmpClosedError):
            let_run(client, world.dir(), Deadline(60))


@EACH
def test_a_start_is_no_failure_when_the_guest_has_ended_before_its_end(
    world: World, ends: dict[str, dict[str, Any]], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", "kvm_at_once", "[hvcore.extensions]\nkvm.at_once = kvm_at_once:plugin\n")
    (tmp_path / "site/kvm_at_once.py").write_text(f"{EXTENSION}\nimport sys\nplugin = sys.modules[__name__]\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    node = hvcore.Node(world.run_dir, uid_pool=world.uids)
    try:
        outcome = node.driver("kvm").start(world.instance(**ends[how]), deadline_s=60)
    finally:
        sys.modules.pop("kvm_at_once", None)
    assert outcome.changed
    assert outcome.state is (State.CRASHED if how.startswith("panicked") else State.SHUTDOWN)
    assert node.cleanup("web1").changed


@pytest.mark.parametrize("how", ["shut down", "panicked, an error"])
def test_without_confinement_the_word_of_qemu_has_to_do(
    world: World, ends: dict[str, dict[str, Any]], how: str
) -> None:
    """Nobody keeps its exit status."""
    world.start(confinement="off", **ends[how])
    world.wait_ended(world.record())
    assert world.info().state is (State.CRASHED if how.startswith("panicked") else State.SHUTDOWN)


def test_an_unconfined_qemu_that_was_killed_has_crashed(world: World) -> None:
    world.start(confinement="off")
    world.kill()
    assert world.info().state is State.CRASHED
