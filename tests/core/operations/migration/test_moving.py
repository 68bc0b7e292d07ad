"""An instance moves between two nodes, or stays: with the fake driver, and whatever happens on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fixture_types import InChild, Web
from killed import at_event, count, die
from migrating_pair import Pair, Recorded, pair_in

from hvcore import (
    BusyError,
    Disk,
    Instance,
    LocalPeer,
    MigrationOutcome,
    MigrationSettings,
    NodeError,
    NotFoundError,
    OperationError,
    StateError,
)
from hvcore.host.environment import journals_dir
from hvcore.model.migration.entry import Act, Request, Side
from hvcore.model.migration.messages import MigrationAnswer, MigrationRequest
from hvcore.operations.migration.coordinate import Migration, begin
from hvcore.state.journal import Journals
from hvcore.state.store import Store

Started = Callable[..., Pair]
MOVED = ("gone", "closed")
STAYED = ("rolled-back", "destroyed")


@pytest.mark.parametrize("mode", ["live", "paused", "postcopy", "cold"])
@pytest.mark.parametrize("paused", [False, True])
def test_an_instance_moves_there_and_back_and_is_in_one_place(started: Started, mode: str, *, paused: bool) -> None:
    pair = started(paused=paused)
    settings, state = MigrationSettings(mode=mode), "paused" if paused else "running"
    assert pair.migrate(settings).moved
    assert (pair.where(), pair.states()) == ({"target": state}, MOVED)
    back = pair.target.migrations.migrate("web1", f"local:{pair.source.run_dir}", settings)
    assert back.moved
    assert pair.where() == {"source": state}
    assert pair.states() == ("closed", "gone")


def test_an_instance_moves_to_a_third_node_and_may_be_started_only_there(started: Started, run_dir: Path) -> None:
    pair = started()
    assert pair.migrate().moved
    third = pair.source.beside(run_dir / "third")
    assert pair.target.migrations.migrate("web1", f"local:{third.run_dir}").moved
    assert third.stop("web1").changed
    for node in (pair.source, pair.target):
        with pytest.raises(BusyError, match="the instance is not here"):
            node.start(Instance(name="web1", driver="fake"))
    assert third.start(Instance(name="web1", driver="fake")).changed


def test_its_disks_are_those_of_the_target_afterwards(pair: Pair, web: Web, tmp_path: Path) -> None:
    (tmp_path / "a.img").touch()
    pair.source.start(replace(web(), disks=(Disk(path=str(tmp_path / "a.img")),)))
    assert pair.migrate().moved
    assert pair.target.info("web1").devices == {"disk0": "disks[0]"}
    assert pair.target.detach("web1", "disk0").changed


@pytest.mark.parametrize("step", ["land", "send", "run"])
def test_a_failure_on_the_way_leaves_the_instance_where_it_was(started: Started, step: str) -> None:
    pair = started(fail_at=step)
    outcome = pair.migrate()
    assert not outcome.moved
    assert "fails on purpose" in " ".join((outcome.why, *outcome.notes))
    assert (pair.where(), pair.states()) == ({"source": "running"}, STAYED)
    assert pair.source.pause("web1").changed


def test_what_the_target_refuses_is_its_reason(started: Started) -> None:
    pair = started()
    outcome = pair.migrate(MigrationSettings(listen="192.0.2.1"))
    assert not outcome.moved
    assert "host: is not an address of this node" in outcome.why
    assert pair.where() == {"source": "running"}


def test_a_target_with_an_instance_of_that_name_refuses(started: Started, web: Web) -> None:
    pair = started()
    pair.target.start(web())
    outcome = pair.migrate()
    assert not outcome.moved
    assert "an instance of that name exists here" in outcome.why
    assert pair.where() == {"source": "running", "target": "running"}


def test_an_instance_that_cannot_move_is_refused_before_anything_has_begun(started: Started) -> None:
    pair = started(fail_at="offer")
    assert not pair.migrate().moved
    assert pair.where() == {"source": "running"}


def test_what_does_not_run_does_not_move(pair: Pair, web: Web) -> None:
    with pytest.raises(NotFoundError):
        pair.migrate()
    pair.source.start(web(fail_at="observe"))
    with pytest.raises(StateError):
        pair.migrate()


def test_a_caller_that_wants_to_end_it_ends_it(started: Started) -> None:
    pair = started()
    asked = iter((False,))

    def wait(_seconds: float) -> bool:
        return next(asked, True)

    outcome = pair.migrate(MigrationSettings(mode="postcopy"), wait=wait)
    assert not outcome.moved
    assert outcome.why == "it was cancelled"
    assert (pair.where(), pair.states()) == ({"source": "running"}, STAYED)


class Gone(BaseException):
    """The caller is gone."""


def both_recorded(pair: Pair, before: Callable[[str], None]) -> None:
    """Begin to move it; ``before`` is called with each request."""
    source, target = (cast("Any", Recorded(node, before)) for node in (pair.source, pair.target))
    begin(Migration(name="web1", source=source, target=target, wait=lambda _: False))


REQUESTS = ("prepare", "start", "finish", "confirm", "close")


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("last", REQUESTS)
def test_another_caller_brings_to_its_end_what_a_first_one_has_left(
    started: Started, last: str, *, abort: bool
) -> None:
    pair = started()

    def leave(request: str) -> None:
        if request == last:
            raise Gone

    with pytest.raises(Gone):
        both_recorded(pair, leave)
    outcome = pair.source.migrations.resume("web1", pair.to, abort=abort)
    if last == "prepare":
        assert outcome is None
        assert pair.where() == {"source": "running"}
        return
    assert outcome is not None
    # Nobody knows how it was to be sent before the source began; and a decision is made once.
    moves = last in ("confirm", "close") or (last == "finish" and not abort)
    assert outcome.moved is moves
    assert (pair.where(), pair.states()) == (
        ({"target": "running"}, MOVED) if moves else ({"source": "running"}, STAYED)
    )


def test_a_request_can_be_sent_again_at_any_time(started: Started) -> None:
    pair = started()

    class Twice(Recorded):
        def ask(self, request: dict[str, Any]) -> dict[str, Any]:
            super().ask(request)
            return super().ask(request)

    assert pair.source.migrations.migrate("web1", Twice(pair.target)).moved
    assert pair.where() == {"target": "running"}


def test_a_second_migration_of_an_instance_is_refused(started: Started) -> None:
    pair = started()

    def second(request: str) -> None:
        if request == "finish":
            with pytest.raises(OperationError, match=r"migration 1-.* is open here"):
                pair.source.migrations.migrate("web1", pair.to)
            with pytest.raises(BusyError, match="is open"):
                pair.source.resume("web1")

    assert pair.source.migrations.migrate("web1", Recorded(pair.target, second)).moved


def test_a_source_that_was_stopped_by_force_after_the_transfer_loses_nothing(started: Started) -> None:
    pair = started()

    def kill(request: str) -> None:
        if request == "finish":
            pair.source.stop("web1", force=True)

    assert pair.source.migrations.migrate("web1", Recorded(pair.target, kill)).moved
    assert (pair.where(), pair.states()) == ({"target": "running"}, MOVED)


def test_a_target_that_was_stopped_by_force_before_it_ran_gives_the_instance_back(started: Started) -> None:
    pair = started()

    def kill(request: str) -> None:
        if request == "finish":
            pair.target.stop("web1", force=True)

    assert not pair.source.migrations.migrate("web1", Recorded(pair.target, kill)).moved
    assert (pair.where(), pair.states()) == ({"source": "running"}, STAYED)


def test_the_word_that_the_target_is_off_starts_the_instance_afresh(started: Started) -> None:
    pair = started()

    def leave(request: str) -> None:
        if request == "finish":
            raise Gone

    with pytest.raises(Gone):
        pair.source.migrations.migrate("web1", cast("Any", Recorded(pair.target, leave)))
    with pytest.raises(OperationError, match=r"fence the peer again"):
        pair.source.migrations.peer_fenced("web1", 0)
    before = pair.source.info("web1").started_at
    assert pair.source.migrations.peer_fenced("web1", 1).state == "rolled-back"
    info = pair.source.info("web1")
    assert (str(info.state), info.started_at != before) == ("running", True)
    assert pair.target.migrations.peer_fenced("web1", 1).state == "destroyed"


def test_a_forgotten_migration_refuses_nothing_any_more(started: Started, web: Web) -> None:
    pair = started()
    assert pair.migrate().moved
    with pytest.raises(BusyError):
        pair.source.start(web())
    pair.target.stop("web1")
    assert pair.source.migrations.forget("web1") is not None
    assert pair.source.start(web()).changed


@pytest.mark.heavy  # a process for each step
@pytest.mark.parametrize("mode", ["live", "cold"])
def test_a_caller_killed_at_any_step_is_followed_by_another(
    in_child: InChild, run_dir: Path, web: Web, mode: str
) -> None:
    """`resume` then ends it, and the instance is in exactly one place. Every 31st step, because there are hundreds."""

    def begin(place: Path) -> Pair:
        pair = pair_in(place)
        pair.source.start(web())
        return pair

    settings = MigrationSettings(mode=mode)
    first = begin(run_dir / "counted")
    total = count(in_child, lambda: first.migrate(settings), run_dir)
    assert total > 50
    ends = set()
    for number in range(5, total, 31):
        pair = begin(run_dir / f"{number}")

        def killed(pair: Pair = pair, number: int = number) -> None:
            at_event(number, die, run_dir)
            pair.migrate(settings)

        assert in_child(killed) == signal.SIGKILL
        pair.source.migrations.resume("web1", pair.to)
        assert list(pair.where().values()) == ["running"], (number, pair.where(), pair.states())
        ends.add(pair.states())
    assert MOVED in ends


def test_an_answer_survives_its_way_as_json(started: Started) -> None:
    pair = started()
    request = MigrationRequest(request=Request.LOOK, side=Side.SOURCE, name="web1", job="")
    assert MigrationRequest.from_json(request.to_json()) == request
    answer = pair.source.migrations.answer(request)
    assert answer.offer is not None
    assert MigrationAnswer.from_json(answer.to_json()) == answer
    assert os.listdir(pair.target.run_dir) == [] if pair.target.run_dir.exists() else True


def test_recovery_does_what_a_killed_caller_had_journaled(started: Started) -> None:
    pair = started()

    def leave(request: str) -> None:
        if request == "finish":
            raise Gone

    with pytest.raises(Gone):
        both_recorded(pair, leave)
    journals = Journals(journals_dir(pair.target.run_dir.parent / "state", pair.target.run_dir))
    (entry,) = pair.target.migrations.of("web1")
    journals.write("web1", replace(entry, state="destroyed", pending=Act.KILL, ended="cancelled"))
    assert [one.what for one in pair.target.recover()] == ["finished"]
    assert pair.target.instances() == []
    assert pair.target.migrations.of("web1")[-1].pending is Act.NONE
    outcome = pair.source.migrations.resume("web1")
    assert outcome is not None
    assert not outcome.moved
    assert pair.where() == {"source": "running"}


class Unplugged:
    """The target, whose connection breaks before the request ``last`` and is back when ``cut`` is False."""

    def __init__(self, pair: Pair, last: str) -> None:
        self._peer = LocalPeer(pair.target)
        self._last = last
        self.name = pair.to
        self.cut = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.cut = self.cut or request["request"] == self._last
        if self.cut:
            raise NodeError(f"{self.name}: cannot be asked: connection refused; check the connection")
        return self._peer.ask(request)


def unplugged(pair: Pair, last: str, mode: str) -> MigrationOutcome:
    peer = cast("Any", Unplugged(pair, last))
    source = cast("Any", LocalPeer(pair.source))
    migration = Migration(name="web1", source=source, target=peer, wait=lambda _: False, patience_s=0.0)
    return begin(migration, MigrationSettings(mode=mode))


def test_a_target_that_cannot_be_reached_any_more_does_not_keep_the_instance(started: Started) -> None:
    pair = started()
    outcome = unplugged(pair, "promise", "postcopy")
    assert not outcome.moved
    assert "the target does not answer: " in outcome.why
    assert f"'hv migrate web1 --cancel --to {pair.to}' ends what waits there" in outcome.notes[-1]
    assert pair.where() == {"source": "running", "target": "starting"}
    assert pair.source.pause("web1").changed
    end = pair.source.migrations.resume("web1", pair.to, abort=True)
    assert end is not None
    assert (end.moved, pair.where(), pair.states()) == (False, {"source": "paused"}, STAYED)


def test_a_target_that_may_have_the_instance_is_waited_for(started: Started) -> None:
    pair = started()
    with pytest.raises(
        OperationError, match=r"the target does not answer: .*; 'hv migrate web1 --resume' goes on later"
    ):
        unplugged(pair, "finish", "live")
    assert pair.states() == ("stopped", "incoming")
    with pytest.raises(BusyError, match="is open"):
        pair.source.resume("web1")
    end = pair.source.migrations.resume("web1")
    assert end is not None
    assert (end.moved, pair.where()) == (True, {"target": "running"})


@pytest.mark.parametrize("mode", ["live", "cold"])
def test_a_secret_that_is_not_saved_is_not_forgotten(started: Started, mode: str) -> None:
    """A start there without it would make a machine that is open to all."""
    pair = started()
    store = Store(pair.source.run_dir)
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, withheld=("token",)))
    outcome = pair.migrate(MigrationSettings(mode=mode))
    assert outcome.moved is (mode == "live")
    if mode == "cold":
        assert "cannot move cold, secret token is saved nowhere; stop it, and start it there" in outcome.why
        assert pair.where() == {"source": "running"}
        return
    with pytest.raises(OperationError, match="secret token is not in it"):
        pair.target.reboot("web1")
    assert pair.where() == {"target": "running"}
