"""A uid has one user on the node, even with two run directories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hvcore.host.reservations import Reservations
from hvcore.host.uids import UidClaims

POOL = range(1_870_000_000, 1_870_000_003)
HELD = "import sys; print(flush=True); sys.stdin.read()"

Node = Callable[[str], UidClaims]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """``node("one")``: the uids of an operation on web1 in that run directory."""
    made: list[UidClaims] = []

    def make(run_dir: str) -> UidClaims:
        made.append(UidClaims(tmp_path / run_dir, "web1", node_wide=True, locks=tmp_path / "locks"))
        return made[-1]

    yield make
    for claims in made:
        claims.close()
    assert os.listdir(tmp_path / "locks") == []


def test_two_starts_at_the_same_time_get_different_uids(node: Node) -> None:
    one, two = node("one"), node("two")
    taken = [one.take_one("uid", POOL), one.take_one("uid", POOL), two.take_one("uid", POOL)]
    assert taken == list(POOL)
    assert node("three").take_one("uid", POOL) is None


def test_a_uid_with_processes_is_not_taken(node: Node) -> None:
    ours = os.getuid()
    assert node("one").take_one("uid", range(ours, ours + 1)) is None
    assert node("one").take_one("uid", POOL) == POOL[0]


def test_a_uid_without_processes_after_the_start_is_free_only_in_other_run_directories(node: Node) -> None:
    one = node("one")
    assert one.take_one("uid", POOL) == POOL[0]
    one.close()
    assert node("one").take_one("uid", POOL) == POOL[1]
    assert node("two").take_one("uid", POOL) == POOL[0]


def test_a_killed_operation_keeps_no_uid_locked(node: Node, in_child: Callable[..., int]) -> None:
    def take_and_die() -> None:
        assert node("one").take_one("uid", POOL) == POOL[0]
        os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(in_child(take_and_die)) == signal.SIGKILL
    assert node("two").take_one("uid", POOL) == POOL[0]


def test_a_process_of_a_killed_operation_keeps_the_uid_locked_before_it_changes_to_it(
    node: Node, in_child: Callable[..., int]
) -> None:
    """The launched process inherits the lock, and the operation is killed before it changes its uid."""
    (ready, signal_ready), (wait_go, go) = os.pipe(), os.pipe()

    def launch_and_die() -> None:
        one = node("one")
        assert one.take_one("uid", POOL) == POOL[0]
        os.close(go)
        with subprocess.Popen([sys.executable, "-c", HELD], stdin=wait_go, stdout=signal_ready, pass_fds=one.fds):
            os.read(ready, 1)
            os.kill(os.getpid(), signal.SIGKILL)

    assert os.WTERMSIG(in_child(launch_and_die)) == signal.SIGKILL
    os.close(signal_ready)
    os.close(wait_go)
    two = node("two")
    assert two.take_one("uid", POOL) == POOL[1]
    os.close(go)
    assert os.read(ready, 1) == b""  # the process has exited
    os.close(ready)
    assert two.take_one("uid", POOL) == POOL[0]


def test_a_forked_child_of_the_host_application_does_not_keep_the_uid_locked(
    node: Node, in_child: Callable[..., int]
) -> None:
    one = node("one")
    assert one.take_one("uid", POOL) == POOL[0]
    release, wait = os.pipe()

    def stay() -> None:
        os.close(wait)
        os.read(release, 1)

    child = in_child(stay, wait=False)
    one.close()
    assert node("two").take_one("uid", POOL) == POOL[0]
    os.close(wait)
    os.waitpid(child, 0)
    os.close(release)


def test_without_root_uids_are_not_locked_on_the_node(tmp_path: Path) -> None:
    ours = os.getuid()
    claims = UidClaims(tmp_path / "run", "web1", node_wide=False, locks=tmp_path / "locks")
    assert claims.take_one("uid", range(ours, ours + 1)) == ours
    assert claims.fds == ()
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize("pattern", ["", "x", "xx", "xxxxxxx", "x.x", ".xx", "xxx.xxxx", "xxxxxxx.", "xxxxxxxx"])
def test_a_free_uid_is_found_in_any_pattern_of_reserved_ones(tmp_path: Path, pattern: str) -> None:
    pool = range(1000, 1008)
    reserved = Reservations(tmp_path / "run/reservations/uid")
    for number, taken in zip(pool, pattern, strict=False):
        if taken == "x":
            reserved.take(str(number), "web0")
    claims = UidClaims(tmp_path / "run", "web1", node_wide=False)
    free = {number for number in pool if not reserved.taken(str(number))}
    found = {claims.take_one("uid", pool) for _ in free}
    assert found == free
    assert claims.take_one("uid", pool) is None
