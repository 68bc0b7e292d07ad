"""The caller dies at any step of an acquire or a release: the ledger then lists everything that may exist."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from killed import at_event, count, die
from numbered import VALUE, kinds_with_locks
from things import Runs, Thing, Who, kinds, left

from hvcore.host.reservations import Reservations
from hvcore.plugin import DiskClaim, Identity, Job, Link, UnixSocket
from hvcore.resources.kinds import Kinds
from hvcore.resources.unique_value import UniqueValueKind

AtWork = Callable[..., Job]
InChild = Callable[..., int]
THREE = (Who(key="a"), Thing(key="b", on=(Who(key="a"),)), Runs(key="p"))


def dying_at(what: str, key: str) -> Kinds:
    def doing(step: str, whose: str) -> None:
        if (step, whose) == (what, key):
            die()

    return kinds(doing)


@pytest.mark.parametrize("key", "abp")
@pytest.mark.parametrize("what", ["entry", "acquire", "acquired"])
def test_whatever_was_acquired_is_in_the_ledger(at_work: AtWork, in_child: InChild, what: str, key: str) -> None:
    job = at_work(kinds=dying_at(what, key))
    assert in_child(job.acquire, *THREE) == signal.SIGKILL
    after = at_work(kinds=kinds())
    assert [entry.key for entry in after.record.ledger] == ([] if what == "entry" else ["a", "b", "p"])
    there = ["a", "b", "p"].index(key) + (what == "acquired")
    assert left(after) == ([] if what == "entry" else ["a", "b", "p"][:there])
    after.release()
    assert left(after) == []


@pytest.mark.parametrize("key", "abp")
@pytest.mark.parametrize("what", ["release", "released"])
def test_a_release_is_finished_by_the_next(at_work: AtWork, in_child: InChild, what: str, key: str) -> None:
    at_work(kinds=kinds()).acquire(*THREE)
    assert in_child(at_work(kinds=dying_at(what, key)).release) == signal.SIGKILL
    after = at_work(kinds=kinds())
    there = ["p", "b", "a"].index(key) + (what == "released")
    assert left(after) == sorted(["p", "b", "a"][there:])
    after.release()
    assert left(after) == []


@pytest.mark.parametrize("what", ["release", "released"])
def test_a_release_by_key_is_finished_by_the_next_and_leaves_the_rest(
    at_work: AtWork, in_child: InChild, what: str
) -> None:
    at_work(kinds=kinds()).acquire(*THREE)
    assert in_child(at_work(kinds=dying_at(what, "b")).release, "b") == signal.SIGKILL
    after = at_work(kinds=kinds())
    assert [entry.key for entry in after.record.ledger] == ["a", "b", "p"]
    after.release("b")
    assert (left(after), [entry.key for entry in after.record.ledger]) == (["a", "p"], ["a", "p"])


@pytest.mark.heavy  # a process for each step; the tests above kill at one step
def test_kinds_of_the_core_leave_nothing_wherever_their_caller_is_killed(
    at_work: AtWork, in_child: InChild, run_dir: Path
) -> None:
    disk, link = run_dir / "disk", run_dir / "link"
    disk.touch()
    wanted = (
        Identity(key="uid"),
        DiskClaim(key="disk0", path=str(disk), write=True),
        Link(key="link", path=str(link), target="socket"),
        UnixSocket(key="socket"),
        VALUE,
    )

    def acquire() -> None:
        at_work(kinds=kinds_with_locks(run_dir / "locks-of-values")).acquire(*wanted)

    def again() -> Job:
        return at_work(kinds=kinds_with_locks(run_dir / "locks-of-values"))

    def once_more() -> None:
        job = again()
        job.release()
        job.update(ledger=())
        (job.dir / "socket").unlink(missing_ok=True)  # goes with the instance's directory

    assert in_child(acquire) == 0  # what is made only once is there before anything is counted
    once_more()
    total = count(in_child, acquire, run_dir)
    assert total > 10
    for number in range(1, total + 1):
        job = again()
        job.release()
        assert nothing_reserved(run_dir)
        assert not os.path.lexists(link)
        job.update(ledger=())
        (job.dir / "socket").unlink(missing_ok=True)  # goes with the instance's directory

        def killed(number: int = number) -> None:
            at_event(number, die, run_dir)
            acquire()

        assert in_child(killed) == signal.SIGKILL
    again().release()
    assert nothing_reserved(run_dir)


def nothing_reserved(run_dir: Path) -> bool:
    root = run_dir / "reservations"
    folders = [folder for folder in root.iterdir() if folder.is_dir()] if root.is_dir() else []
    return not any(Reservations(folder).items() for folder in folders)


def test_the_sweep_would_notice(at_work: AtWork, run_dir: Path) -> None:
    at_work(kinds=kinds_with_locks(run_dir)).acquire(VALUE)
    assert not nothing_reserved(run_dir)
    assert isinstance(kinds_with_locks(run_dir).named("unique-value"), UniqueValueKind)
