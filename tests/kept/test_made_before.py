"""Guests, chroots and interrupted starts of an earlier commit: today's code sees them, ends them, and leaves nothing.

The node has everything that the commit made (`kept_before`): the record, the processes with their arguments, the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import kept_node
import kept_proc as proc
import pytest
from kept_before import FOLDER, Before
from kept_node import Kept

import hvcore
from hvcore import State

pytestmark = pytest.mark.live

GUESTS: Final = ("kvm-strict", "kvm-user", "kvm-off", "kvm-paused")
CHROOTS: Final = ("chroot", "chroot-users", "chroot-plain")
CONFINED: Final = (
    "kvm-strict",
    "kvm-user",
    "kvm-paused",
    "chroot",
    "chroot-users",
)  # by bubblewrap or a user namespace
SCENARIOS: Final = (*GUESTS, *CHROOTS, "fake")
QUICK: Final = ("kvm-strict", "chroot-users", "fake")
Make = Callable[[str], Before]


def each(names: Iterable[str] = SCENARIOS, *, also: str = "") -> pytest.MarkDecorator:
    """A test for each of them; those that differ little from another belong to the slow ones."""
    quick = (*QUICK, also)
    return pytest.mark.parametrize(
        "what", [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
    )


@pytest.fixture
def make(kept: Kept) -> Iterator[Make]:
    made: list[Before] = []

    def build(what: str) -> Before:
        if what in CONFINED and kept_node.in_plain_chroot():
            pytest.skip("this root is not a mount point, and the earlier commit's command line of bubblewrap needs one")
        made.append(Before(kept, what))
        made[-1].lay_disk()
        return made[-1]

    yield build
    for one in made:
        one.close()


def started(before: Before, *, programs: int | None = None) -> Before:
    """Everything launched (or the first few programs), and nothing written down of that."""
    launched = before.made["launched"]
    before.reserve(before.running)
    before.give_away()
    for number in range(len(launched) if programs is None else programs):
        before.launch(number)
        if launched[number]["argv"][0] != "env":
            before.up()
    return before


def running(make: Make, what: str) -> Before:
    """The instance after its start succeeded and the program that started it exited."""
    before = started(make(what))
    if what in CHROOTS:
        before.script_ended()
    elif what == "kvm-paused":
        with before.monitor() as monitor:
            assert monitor.ask("query-status")["running"] is False
    elif what != "fake":
        before.let_go()
    before.close()
    before.write(before.running)
    return before


def only(kept: Kept) -> hvcore.InstanceInfo:
    (info,) = kept.node.instances()
    assert info == kept.node.info(kept.name) or info.pid == kept.node.info(kept.name).pid
    assert info.name == kept.name
    return info


def left(before: Before) -> list[str]:
    return before.kept.settled()


@each(also="kvm-off")
def test_a_running_instance_is_listed_and_stopped_politely(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    info = only(kept)
    assert info.driver == before.records[0]["record"]["driver"]
    assert info.state is (State.PAUSED if what == "kvm-paused" else State.RUNNING)
    if what in GUESTS:
        assert (info.pid, info.memory_mib) == (before.values["pid:" + str(len(before.made["launched"]) - 1)], 32)
    assert kept.node.recover() == []  # a healthy one is left alone
    assert only(kept).state is info.state
    # One that has never run is not run for its stop.
    how = "quit" if what == "kvm-paused" else {"k": "powerdown", "c": "script", "f": "powerdown"}[what[0]]
    assert kept.node.stop(kept.name, deadline_s=300).rung == how
    assert left(before) == []


@each()
def test_one_that_runs_is_ended_by_force(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    assert kept.node.stop(kept.name, force=True).changed
    assert left(before) == []


@each(["kvm-paused", "chroot", "chroot-plain"], also="kvm-paused")
def test_one_whose_record_is_torn_is_ended_by_force(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    record = kept.dir / "record.json"
    record.write_bytes(record.read_bytes()[:-4])
    assert only(kept).state is State.UNKNOWN
    assert kept.node.stop(kept.name, force=True).changed
    (damaged,) = (kept.run_dir / "damaged").iterdir()
    damaged.unlink()
    assert left(before) == []


@each(["kvm-strict", "chroot"])
def test_one_that_was_killed_is_cleaned_up(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    pid = only(kept).pid
    assert pid is not None
    proc.kill(pid)
    assert only(kept).state in (State.CRASHED, State.SHUTDOWN)
    assert kept.node.cleanup(kept.name).changed
    assert left(before) == []


def test_the_command_line_sees_it_and_stops_it(kept: Kept, make: Make) -> None:
    before = running(make, "kvm-strict")
    (found,) = json.loads(kept.hv("list", "--json"))
    assert (found["name"], found["state"], found["pid"]) == (kept.name, "running", before.values["pid:1"])
    assert kept.name in kept.hv("stop", "--force", kept.name)
    assert left(before) == []


def settled(kept: Kept) -> list[str]:
    """What recovery does with the instance, once it has seen it as it was left."""
    assert only(kept).state in (State.STARTING, State.STOPPING)
    return [found.what for found in kept.node.recover()]


@each()
def test_a_start_that_had_acquired_nothing_is_undone(kept: Kept, make: Make, what: str) -> None:
    before = make(what)
    before.write(1)
    assert settled(kept) == ["undone"]
    assert left(before) == []


@each(SCENARIOS[:-1])
def test_a_start_that_had_launched_nothing_is_undone(kept: Kept, make: Make, what: str) -> None:
    before = make(what)
    before.reserve(before.running - 1)
    before.give_away()
    before.make_files(before.made["launched"][0]["before"])
    before.write(before.running - 1)
    assert settled(kept) == ["undone"]
    assert left(before) == []


@each(["kvm-strict", "kvm-user", "kvm-off"])
def test_a_start_that_had_launched_the_tpm_alone_is_undone(kept: Kept, make: Make, what: str) -> None:
    before = started(make(what), programs=1)
    before.write(2)
    assert not proc.ended(before.values["pid:0"])
    assert settled(kept) == ["undone"]
    assert proc.ended(before.values["pid:0"])
    before.close()
    assert left(before) == []


@pytest.mark.parametrize("force", [False, True], ids=["recovered", "by force"])
@each(["kvm-strict", "kvm-user", "kvm-off"])
def test_a_start_whose_guest_had_not_been_let_go_is_undone(kept: Kept, make: Make, what: str, *, force: bool) -> None:
    before = started(make(what))
    with before.monitor() as monitor:
        assert monitor.ask("query-status")["running"] is False
    before.close()
    before.write(before.running - 1)
    if force:
        assert kept.node.stop(kept.name, force=True).changed
    else:
        assert settled(kept) == ["undone"]
    assert left(before) == []


def test_a_start_whose_qemu_did_not_answer_yet_is_undone(kept: Kept, make: Make) -> None:
    """At once, while bubblewrap is still at work."""
    before = make("kvm-strict")
    before.reserve(before.running)
    before.give_away()
    before.launch(0)
    before.up()
    before.launch(1)
    before.close()
    before.write(before.running - 1)
    assert settled(kept) == ["undone"]
    assert left(before) == []


@each(["kvm-strict", "kvm-user", "kvm-off", "kvm-paused", "chroot", "chroot-users"], also="kvm-paused")
def test_a_start_that_had_succeeded_and_was_not_written_down_is_finished(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    before.write(before.running - 1)
    assert settled(kept) == ["finished"]
    state = State.PAUSED if what == "kvm-paused" else State.RUNNING
    last = f"pid:{len(before.made['launched']) - 1}"
    assert (only(kept).state, only(kept).pid) == (state, before.values[last])
    if state is State.PAUSED:
        assert kept.node.resume(kept.name).changed
    assert kept.node.stop(kept.name, force=True).changed
    assert left(before) == []


def test_a_start_without_namespaces_that_was_not_written_down_is_undone(kept: Kept, make: Make) -> None:
    before = running(make, "chroot-plain")
    before.write(before.running - 1)
    assert settled(kept) == ["undone"]
    assert left(before) == []


@each(name for name in SCENARIOS if name != "kvm-paused")
def test_a_stop_that_had_ended_nothing_is_taken_back(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    before.write(before.running + 1)
    assert settled(kept) == ["taken back"]
    assert only(kept).state is State.RUNNING
    assert kept.node.stop(kept.name, force=True).changed
    assert left(before) == []


@each(["kvm-strict", "kvm-off", "chroot"])
def test_a_stop_that_had_ended_it_is_finished(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    before.write(before.running + 1)
    proc.kill(before.values[f"pid:{len(before.made['launched']) - 1}"])
    assert settled(kept) == ["finished"]
    assert left(before) == []


@each()
def test_whatever_was_written_before_the_node_was_restarted_is_cleaned(kept: Kept, make: Make, what: str) -> None:
    before = make(what)
    before.values["boot"] = "00000000-0000-4000-8000-000000000000"
    for number in range(len(before.records)):
        for name in ("uid:0", "pid:0", "ticks:0", "outer:0", "outerticks:0", "pid:1", "ticks:1", "outer:1"):
            before.values.setdefault(name, 4_190_000)
        before.values |= {"outerticks:1": 5, "namespace:0": 4_026_539_999}
        kept.dir.mkdir(mode=0o700, exist_ok=True)
        before.reserve(number)
        before.write(number)
        assert only(kept).driver == before.records[number]["record"]["driver"]
        assert [found.what for found in kept.node.recover()] == ["cleaned"]
        assert left(before) == []


@each(GUESTS)
def test_its_disk_is_refused_to_others_while_it_runs(kept: Kept, make: Make, what: str) -> None:
    before = running(make, what)
    other = Kept(kept.root / "elsewhere")
    for node, name in ((kept.node, f"{kept.name}-2"), (other.node, other.name)):
        with pytest.raises(hvcore.DiskInUseError):
            node.driver("kvm").start(kept.kvm(name=name))
    assert kept.node.stop(kept.name, force=True).changed
    assert left(before) == []


def test_all_scenarios_are_here() -> None:
    assert sorted(SCENARIOS) == sorted(path.stem for path in FOLDER.glob("*.json"))
