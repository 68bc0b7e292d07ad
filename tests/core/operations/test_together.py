"""Many at once: processes that compete for one thing, or do many things at the same time."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_types import Web

from hvcore import BusyError, DriverHandle, Node, Op, Outcome, State

pytestmark = pytest.mark.heavy  # many operations at once

UIDS = range(1_880_000_000, 1_880_000_100)


def test_thirty_two_starts_at_once_get_thirty_two_uids(
    run_dir: Path, node: Node, fake: DriverHandle, web: Web, in_child: Callable[..., int]
) -> None:
    go = os.pipe()

    def start(name: str) -> None:
        os.close(go[1])
        os.read(go[0], 1)  # until everybody is there
        Node(run_dir, uid_pool=UIDS).driver("fake").start(web(name))

    pids = [in_child(start, f"web{number}", wait=False) for number in range(32)]
    os.close(go[1])
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 32
    os.close(go[0])
    assert {info.state for info in node.instances()} == {State.RUNNING}
    from hvcore.state.store import Store

    records = [Store(run_dir).load(info.name) for info in node.instances()]
    taken = [record.bindings["uid"] for record in records if record is not None]
    assert len(set(taken)) == 32


@pytest.mark.parametrize("seed", [1, 2])
def test_processes_that_start_and_stop_the_same_one_never_meet(
    seed: int, run_dir: Path, node: Node, fake: DriverHandle, web: Web, in_child: Callable[..., int]
) -> None:
    def work(number: int) -> None:
        choice = random.Random(seed * 10 + number)
        mine = Node(run_dir, uid_pool=UIDS)
        for _ in range(25):
            acts: list[Callable[[], Outcome]] = [
                lambda: mine.driver("fake").start(web()),
                lambda: mine.stop("web1"),
                lambda: mine.stop("web1", force=True),
            ]
            assert choice.choice(acts)().name == "web1"
            infos = mine.instances()
            assert {info.state for info in infos} <= {State.RUNNING, State.STARTING, State.STOPPING}, infos

    pids = [in_child(work, number, wait=False) for number in range(3)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 3
    node.stop("web1")
    assert os.listdir(run_dir / "instances") == []
    assert os.listdir(run_dir / "reservations" / "uid") == []
    assert os.listdir(run_dir / "locks") == []


def test_a_host_application_that_forks_during_a_start_delays_nothing(
    run_dir: Path, web: Web, in_child: Callable[..., int]
) -> None:
    """As multiprocessing does: the child lives on, with a copy of every descriptor of its parent."""
    pipe = os.pipe()
    forked = False

    def fork_once(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal forked
        if event == "os.symlink" and not forked:  # the uid is being taken: the lock is held
            forked = True
            if os.fork() == 0:
                os.close(pipe[1])
                os.read(pipe[0], 1)
                os._exit(0)

    def start() -> None:
        sys.addaudithook(fork_once)
        Node(run_dir, uid_pool=UIDS).driver("fake").start(web())

    assert in_child(start) == 0
    node = Node(run_dir, uid_pool=UIDS)
    assert node.info("web1").state is State.RUNNING
    assert node.stop("web1", deadline_s=0).changed  # at once: the lock is free
    os.close(pipe[0])
    os.close(pipe[1])


def test_observing_never_waits_for_a_lock(run_dir: Path, node: Node, fake: DriverHandle, web: Web) -> None:
    from hvcore.state.store import Store

    fake.start(web())
    with Store(run_dir).lock("web1", "stop"):
        assert node.info("web1").state is State.RUNNING
        assert len(node.instances()) == 1
        with pytest.raises(BusyError, match="web1: busy"):
            node.pause("web1", deadline_s=0)
    assert node.pause("web1").op is Op.PAUSE
