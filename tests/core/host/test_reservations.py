"""Things of which a node has one each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hvcore.host.reservations import Reservations


def test_what_is_taken_has_one_owner(tmp_path: Path) -> None:
    uids = Reservations(tmp_path / "uid")
    assert uids.take("7", "web1") is None
    assert uids.take("7", "web1") is None
    assert uids.take("7", "web10") == "web1"
    assert uids.items() == {"7": "web1"}


def test_only_ones_own_are_given_back(tmp_path: Path) -> None:
    uids = Reservations(tmp_path / "uid")
    for key, owner in (("1", "web1"), ("2", "web10"), ("3", "web1"), ("4", "web")):
        uids.take(key, owner)
    uids.release("web1")
    assert uids.items() == {"2": "web10", "4": "web"}
    uids.release("nobody")
    assert uids.take("1", "web2") is None


def test_nothing_is_reserved_where_nothing_ever_was(tmp_path: Path) -> None:
    uids = Reservations(tmp_path / "none")
    uids.release("web1")
    assert uids.items() == {}
    assert not (tmp_path / "none").exists()


def test_thirty_two_processes_get_thirty_two_uids(tmp_path: Path, in_child: Callable[..., int]) -> None:
    go = os.pipe()

    def take_one(owner: str) -> None:
        os.close(go[1])
        os.read(go[0], 1)  # until everybody is there
        uids = Reservations(tmp_path / "uid")
        for uid in range(1000, 1100):
            if uids.take(str(uid), owner) is None:
                return
        raise AssertionError("there was none")

    pids = [in_child(take_one, f"web{number}", wait=False) for number in range(32)]
    os.close(go[1])
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 32
    os.close(go[0])
    taken = Reservations(tmp_path / "uid").items()
    assert sorted(taken) == [str(uid) for uid in range(1000, 1032)]
    assert len(set(taken.values())) == 32
