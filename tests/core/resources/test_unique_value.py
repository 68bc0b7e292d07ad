"""A number has one instance on the node: in its run directory by a reservation, beyond it by a lock of its program."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from empty_network import NEEDS_ROOT, empty_network
from numbered import VALUE, kinds_with_locks

from hvcore.host.launching.launch import reap
from hvcore.host.processes.process import kill_and_wait
from hvcore.host.reservations import Reservations
from hvcore.plugin import Command, Job, NodeError, OperationError, Site, UniqueValue, mac_claim
from hvcore.resources.unique_value import UniqueValueKind

AtWork = Callable[..., Job]
InChild = Callable[..., int]
FIVE = replace(VALUE, value=5)


@pytest.fixture
def locks(run_dir: Path) -> Path:
    return run_dir.parent / "locks"


@pytest.fixture
def job(at_work: AtWork, locks: Path) -> AtWork:
    """An operation whose node has its locks in that directory, as for root."""

    def make(name: str = "web1", **where: Any) -> Job:
        return at_work(name, kinds=kinds_with_locks(locks), **{"privileged": True, **where})

    return make


def problems(job: Job, resource: UniqueValue) -> list[str]:
    return [str(problem) for problem in job.kinds.problems([resource], job.held.site)]


def reserved(run_dir: Path) -> dict[str, str]:
    return Reservations(run_dir / "reservations" / "value-vsock-cid").items()


def test_the_first_free_one_is_taken_and_remembered(job: AtWork, run_dir: Path) -> None:
    first, second = job("web1"), job("web2")
    assert first.acquire(VALUE)[VALUE] == 3
    assert second.acquire(VALUE)[VALUE] == 4
    assert reserved(run_dir) == {"3": "web1", "4": "web2"}
    assert first.record.bindings["vsock.cid"] == 3


def test_the_configured_number_is_taken(job: AtWork, run_dir: Path) -> None:
    assert job().acquire(FIVE)[FIVE] == 5
    assert reserved(run_dir) == {"5": "web1"}


def test_a_number_of_another_instance_is_refused_before_and_at_the_start(job: AtWork) -> None:
    job("web1").acquire(FIVE)
    other = job("web2")
    message = "params.vsock_cid: is taken by instance web1, got 5; choose another, or unset it"
    assert problems(other, FIVE) == [message]
    with pytest.raises(OperationError, match=r"web2: vsock-cid 5 is taken; choose another for params\.vsock_cid"):
        other.acquire(FIVE)
    assert problems(other, replace(FIVE, value=6)) == problems(other, VALUE) == []


def test_its_own_number_is_no_problem_of_an_instance(job: AtWork) -> None:
    first = job("web1")
    first.acquire(FIVE)
    assert problems(first, FIVE) == []


def test_numbers_of_another_space_are_others(job: AtWork) -> None:
    other = replace(FIVE, space="mdev")
    job("web1").acquire(FIVE)
    assert job("web2").acquire(other)[other] == 5


def test_a_number_in_another_run_directory_is_taken_too(job: AtWork, tmp_path: Path) -> None:
    job("web1").acquire(FIVE)
    elsewhere = job("web1", run_dir=tmp_path / "elsewhere")
    assert problems(elsewhere, FIVE) == ["params.vsock_cid: is taken on this node, got 5; choose another, or unset it"]
    with pytest.raises(OperationError, match="web1: vsock-cid 5 is taken"):
        elsewhere.acquire(FIVE)
    free = replace(VALUE, first=5)
    assert elsewhere.acquire(free)[free] == 6
    assert reserved(tmp_path / "elsewhere") == {"6": "web1"}


def test_when_all_are_taken_the_error_says_so(job: AtWork) -> None:
    two = replace(VALUE, last=4)
    for name in ("web1", "web2"):
        job(name).acquire(two)
    with pytest.raises(OperationError, match="web3: no vsock-cid from 3 to 4 is free; stop an instance that has one"):
        job("web3").acquire(two)


def test_a_failure_keeps_no_lock(job: AtWork, run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "reservations").touch()  # where a directory has to be
    with pytest.raises(NodeError, match="reservations"):
        job("web1").acquire(FIVE)
    elsewhere = job("web1", run_dir=tmp_path / "elsewhere")
    assert elsewhere.acquire(FIVE)[FIVE] == 5


def test_the_whole_range_of_cids_is_searched_in_no_time(job: AtWork) -> None:
    cids = replace(VALUE, last=4_294_967_294)
    assert job().acquire(cids)[cids] == 3


def test_a_number_is_free_when_it_was_released(job: AtWork, run_dir: Path) -> None:
    first = job("web1")
    first.acquire(FIVE)
    first.held.close()
    first.release("vsock.cid")
    assert reserved(run_dir) == {}
    assert job("web2").acquire(FIVE)[FIVE] == 5


def test_a_release_leaves_the_other_number_of_the_instance(job: AtWork, run_dir: Path) -> None:
    first = job("web1")
    first.acquire(FIVE, replace(VALUE, key="second"))
    first.release("vsock.cid")
    assert reserved(run_dir) == {"3": "web1"}


def test_the_program_that_is_launched_keeps_the_lock_for_as_long_as_it_lives(job: AtWork, tmp_path: Path) -> None:
    first = job("web1")
    first.acquire(FIVE)
    child = first.launch(Command(argv=("sleep", "100"), sandbox=None))
    try:
        first.held.close()
        elsewhere = job("web9", run_dir=tmp_path / "elsewhere")
        assert problems(elsewhere, FIVE) != []
        process = child.process()
        assert process is not None
        kill_and_wait(process, subject="web1", deadline_s=60)
        assert child.wait(60) is not None
    finally:
        child.close()
        reap()
    assert problems(elsewhere, FIVE) == []
    assert elsewhere.acquire(FIVE)[FIVE] == 5


def test_a_killed_holder_blocks_no_other_instance(
    job: AtWork, in_child: InChild, tmp_path: Path, run_dir: Path
) -> None:
    def acquire_and_die() -> None:
        job("web1").acquire(FIVE)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(acquire_and_die) == signal.SIGKILL
    elsewhere = job("web9", run_dir=tmp_path / "elsewhere")
    assert elsewhere.acquire(FIVE)[FIVE] == 5  # beyond its run directory at once
    elsewhere.held.close()
    assert reserved(run_dir) == {"5": "web1"}
    job("web1").release()  # in its own when it is recovered
    assert job("web2").acquire(FIVE)[FIVE] == 5


def test_a_user_has_his_locks_in_his_run_directory(job: AtWork, run_dir: Path, locks: Path) -> None:
    job(privileged=False).acquire(FIVE)
    assert (run_dir / "values" / "vsock-cid" / "5").exists()
    assert not locks.exists()


def test_steps_of_a_plan(site: Callable[..., Site], locks: Path) -> None:
    kind = UniqueValueKind(locks)
    assert [str(step.what) for value in (VALUE, FIVE) for step in kind.describe(value, site())] == [
        "take the first free vsock-cid from 3 to 9",
        "take vsock-cid 5",
    ]
    assert (kind.placeholder(VALUE, site()), kind.placeholder(FIVE, site())) == (3, 5)
    assert not locks.exists()


@NEEDS_ROOT
def test_a_mac_address_is_unique_in_its_network(
    job: AtWork, site: Callable[..., Site], locks: Path, tmp_path: Path
) -> None:
    claim = mac_claim("nic0.mac", "nics[0].mac", "aa:00:00:4b:c1:01")
    with empty_network():
        first = job("web1")
        assert first.acquire(claim)[claim] == 0xAA00004BC101
        other = job("web1", run_dir=tmp_path / "other-run")
        where = site("web1", run_dir=tmp_path / "other-run", privileged=True)
        (problem,) = UniqueValueKind(locks).verify(claim, where)
        assert str(problem) == "nics[0].mac: is taken on this node, got aa:00:00:4b:c1:01; choose another, or unset it"
        with pytest.raises(OperationError, match="mac-address aa:00:00:4b:c1:01 is taken"):
            other.acquire(claim)
        with empty_network():
            job("web2", run_dir=tmp_path / "third-run").acquire(claim)
