"""While a migration is open, its instance is left alone, and everyone who asks is told why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Web

from hvcore import BusyError, Disk, DriverHandle, HvError, Node, NodeError, State
from hvcore.api.doctor import examine
from hvcore.host.environment import journals_dir
from hvcore.model.migration.entry import JournalEntry, Side, SourceState, TargetState
from hvcore.model.record import Phase
from hvcore.state.journal import Journals
from hvcore.state.store import Store

JOB = "3-5f1e0a77"
OPEN = rf"^web1: migration {JOB} to ssh://b is open \(stopped\); 'hv migrate web1 --resume' brings it to its end"
Change = Callable[[Node], object]


@pytest.fixture
def state_dir(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVCORE_STATE_DIR", str(run_dir.parent / "state"))
    return run_dir.parent / "state"


@pytest.fixture
def journals(state_dir: Path, run_dir: Path) -> Journals:
    return Journals(journals_dir(state_dir, run_dir))


def entry(state: SourceState | TargetState = SourceState.STOPPED, **changed: Any) -> JournalEntry:
    side = Side.SOURCE if isinstance(state, SourceState) else Side.TARGET
    return replace(JournalEntry(job=JOB, name="web1", driver="fake", side=side, state=state, peer="ssh://b"), **changed)


REFUSED: dict[str, Change] = {
    "stop": lambda node: node.stop("web1"),
    "reboot": lambda node: node.reboot("web1"),
    "reboot by force": lambda node: node.reboot("web1", force=True),
    "pause": lambda node: node.pause("web1"),
    "resume": lambda node: node.resume("web1"),
    "cleanup": lambda node: node.cleanup("web1"),
    "reset": lambda node: node.reset("web1"),
    "powerdown": lambda node: node.powerdown("web1"),
    "send_keys": lambda node: node.send_keys("web1", "ret"),
    "nmi": lambda node: node.nmi("web1"),
    "attach": lambda node: node.attach("web1", Disk(path="/srv/a.img")),
    "detach": lambda node: node.detach("web1", "disk0"),
    "balloon": lambda node: node.balloon("web1", 64),
    "vcpus": lambda node: node.resize_vcpus("web1", 1),
    "memory": lambda node: node.resize_memory("web1", 128),
    "pin": lambda node: node.pin("web1", "0"),
}


@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_no_operation_touches_an_instance_whose_migration_is_open(
    state_dir: Path, node: Node, fake: DriverHandle, web: Web, journals: Journals, change: Change
) -> None:
    fake.start(web())
    journals.write("web1", entry())
    with pytest.raises(BusyError, match=OPEN):
        change(node)
    assert node.info("web1").state is State.RUNNING


def test_an_instance_that_was_lost_or_stopped_by_force_is_not_started_again(
    state_dir: Path, node: Node, fake: DriverHandle, web: Web, journals: Journals
) -> None:
    fake.start(web())
    journals.write("web1", entry())
    assert node.stop("web1", force=True).changed
    assert journals.read("web1").open == entry()
    with pytest.raises(BusyError, match=OPEN):
        fake.start(web())
    assert node.instances() == []


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (
            SourceState.GONE,
            "^web1: migration 3-5f1e0a77 to ssh://b: the instance is not here, .*; start it there, or use 'hv migrate",
        ),
        (
            TargetState.DESTROYED,
            "^web1: migration 3-5f1e0a77 from ssh://b: the instance is not here, the migration was",
        ),
        (TargetState.RAN, r"^web1: migration 3-5f1e0a77 from ssh://b is open \(ran\)"),
    ],
)
def test_a_start_is_refused_where_the_instance_is_not(
    state_dir: Path, fake: DriverHandle, web: Web, journals: Journals, state: SourceState | TargetState, why: str
) -> None:
    journals.write("web1", entry(state))
    with pytest.raises(BusyError, match=why):
        fake.start(web())


@pytest.mark.parametrize("state", [SourceState.ROLLED_BACK, TargetState.CLOSED])
def test_a_start_is_possible_where_the_instance_stayed_or_arrived(
    state_dir: Path, fake: DriverHandle, web: Web, journals: Journals, state: SourceState | TargetState
) -> None:
    journals.write("web1", entry(state))
    assert fake.start(web()).changed


def test_the_newest_ended_migration_says_where_the_instance_is(
    state_dir: Path, fake: DriverHandle, web: Web, journals: Journals
) -> None:
    journals.write("web1", entry(SourceState.GONE))
    journals.write("web1", entry(TargetState.CLOSED, job="4-5f1e0a77"))
    assert fake.start(web()).changed


def test_an_instance_that_runs_here_after_its_migration_can_be_changed_and_not_started_twice(
    state_dir: Path, node: Node, fake: DriverHandle, web: Web, journals: Journals
) -> None:
    fake.start(web())
    journals.write("web1", entry(TargetState.RAN))
    assert not fake.start(web()).changed
    assert node.pause("web1").changed
    with pytest.raises(BusyError, match="is open"):
        node.reboot("web1")
    assert node.stop("web1").changed


@pytest.mark.parametrize("operation", ["start", "pause", "stop", "info"])
def test_a_journal_that_cannot_be_read_refuses_everything_but_force(
    state_dir: Path, node: Node, fake: DriverHandle, web: Web, journals: Journals, operation: str
) -> None:
    if operation != "start":
        fake.start(web())
    journals.write("web1", entry())
    (journals.directory / "web1/journal.json").write_text("{}")
    if operation == "info":
        assert "its migration journal" in (node.info("web1").reason or "")
    else:
        with pytest.raises(NodeError, match=r"^web1: its migration journal .* is damaged"):
            fake.start(web()) if operation == "start" else getattr(node, operation)("web1")
    assert node.stop("web1", force=True).changed is (operation != "start")


def test_list_info_recover_and_doctor_show_what_is_open(
    state_dir: Path, run_dir: Path, node: Node, fake: DriverHandle, web: Web, journals: Journals
) -> None:
    fake.start(web())
    fake.start(web("web2"))
    journals.write("web1", entry())
    first, second = node.instances()
    what = f"migration {JOB} to ssh://b is open (stopped); 'hv migrate web1 --resume' brings it to its end"
    assert (first.reason, second.reason, node.info("web1").reason) == (what, None, what)
    (recovered,) = node.recover()
    assert (recovered.name, recovered.what, recovered.detail) == ("web1", "open", what)
    assert any(finding.subject == "web1" and finding.what == what for finding in examine(run_dir))


def test_what_arrives_is_starting_and_no_recovery_undoes_it(
    state_dir: Path, node: Node, fake: DriverHandle, web: Web, journals: Journals, store: Store
) -> None:
    fake.start(web(), paused=True)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, phase=Phase.ARRIVING))
    journals.write("web1", entry(TargetState.INCOMING))
    info = node.info("web1")
    assert info.state is State.STARTING
    assert "it waits for its state; migration 3-5f1e0a77 from ssh://b is open (incoming)" in (info.reason or "")
    assert [found.what for found in node.recover()] == ["open"]
    for refused in (node.stop, node.resume, node.cleanup, node.reboot):
        with pytest.raises(HvError):
            refused("web1")
    assert node.info("web1").state is State.STARTING
    journals.write("web1", entry(TargetState.DESTROYED))
    assert [found.what for found in node.recover()] == ["undone"]
    assert node.instances() == []


def test_a_stop_by_force_ends_what_arrives_and_leaves_the_journal(
    state_dir: Path, node: Node, fake: DriverHandle, web: Web, journals: Journals, store: Store
) -> None:
    fake.start(web(), paused=True)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, phase=Phase.ARRIVING))
    journals.write("web1", entry(TargetState.INCOMING))
    assert node.stop("web1", force=True).changed
    assert node.instances() == []
    assert journals.read("web1").open == entry(TargetState.INCOMING)
