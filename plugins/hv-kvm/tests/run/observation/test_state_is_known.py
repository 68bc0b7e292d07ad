"""The state of a guest is known where its journal does not show it, and nothing is concluded in another PID namespace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from other_pids import in_other_pids
from world import World

from hvcore import State

pytestmark = pytest.mark.live


def emptied(journal: Path) -> None:
    os.truncate(journal, 0)


def removed(journal: Path) -> None:
    journal.unlink()


def begun_and_cut(journal: Path) -> None:
    os.truncate(journal, journal.stat().st_size - 5)


def replaced(journal: Path) -> None:
    journal.unlink()
    journal.symlink_to("/etc/hostname")


def without_its_first_answer(journal: Path) -> None:
    """As after a start that was killed before QEMU got the command that begins the events: no event is in it."""
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])


@pytest.mark.parametrize("harm", [emptied, removed, begun_and_cut, replaced, without_its_first_answer])
def test_qemu_is_asked_where_its_journal_does_not_tell(world: World, harm: Callable[[Path], None]) -> None:
    world.start()
    harm(world.dir() / "guest/events.out")
    assert world.info().state is State.RUNNING
    assert world.node.pause("web1").changed
    harm_again = world.dir() / "guest/events.out"
    if harm is not removed and harm is not replaced:
        harm(harm_again)
    assert world.info().state is State.PAUSED
    assert not world.node.pause("web1").changed
    assert world.node.resume("web1").changed
    assert world.info().state is State.RUNNING
    world.node.stop("web1", force=True)
    assert world.leftovers() == []


def test_a_paused_start_without_its_first_answer_is_paused_and_can_be_resumed(world: World) -> None:
    world.start(paused=True)
    without_its_first_answer(world.dir() / "guest/events.out")
    assert world.info().state is State.PAUSED
    assert world.node.resume("web1").changed
    assert world.info().state is State.RUNNING
    world.node.stop("web1", force=True)


ELSEWHERE = """
import json, sys, hvcore
node = hvcore.Node(sys.argv[1])
said = {"list": [str(one.state) for one in node.instances()]}
calls = {
    "stop": lambda: node.stop("web1", deadline_s=1.0),
    "force": lambda: node.stop("web1", force=True),
    "cleanup": lambda: node.cleanup("web1"),
    "reboot": lambda: node.reboot("web1", deadline_s=1.0),
    "start": lambda: node.driver("kvm").start(hvcore.Instance(name="web1", driver="kvm", memory_mib=64, params={"kvm_flag": "disabled"})),
}
for name, call in calls.items():
    try:
        call()
    except hvcore.HvError as error:
        said[name] = " ".join([str(error), *getattr(error, "__notes__", ())])
print(json.dumps(said))
"""


def test_in_another_pid_namespace_everything_but_reading_is_refused(root: None, world: World) -> None:
    world.start(disks=[])
    pid, record = world.pid(), (world.dir() / "record.json").read_bytes()
    done = in_other_pids(ELSEWHERE, str(world.run_dir))
    said = json.loads(done.stdout)
    assert said.pop("list") == ["unknown"]
    assert set(said) == {"stop", "force", "cleanup", "reboot", "start"}
    assert all("in a PID namespace that cannot be seen from here" in text for text in said.values()), said
    assert (world.dir() / "record.json").read_bytes() == record
    assert (world.info().state, world.pid()) == (State.RUNNING, pid)
    assert world.node.stop("web1", force=True).changed
    assert world.leftovers() == []
