"""A process that holds a life lock and is not in /proc."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hvcore.host.processes.launched import is_held_unseen, life_locks
from hvcore.host.processes.process import identify, wait_gone
from hvcore.host.processes.search import exiting
from hvcore.model.record import ProcessId


@pytest.fixture
def unseen(tmp_path: Path) -> Iterator[socket.socket]:
    """A life lock that only a message in a socket holds, until that is closed: as of a process that nobody can see."""
    fd = os.open(tmp_path / "alive", os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    ours, theirs = socket.socketpair()
    socket.send_fds(ours, [b"x"], [fd])
    os.close(fd)
    yield theirs
    ours.close()
    theirs.close()


@pytest.mark.usefixtures("unseen")
def test_a_lock_without_a_process_is_held_by_one_that_cannot_be_seen(tmp_path: Path) -> None:
    assert is_held_unseen(tmp_path / "alive")


def test_a_process_that_exits_is_waited_for(tmp_path: Path, unseen: socket.socket) -> None:
    """Its descriptors are gone from /proc before the kernel frees its locks."""
    later = threading.Timer(0.05, unseen.close)
    later.start()
    assert not is_held_unseen(tmp_path / "alive")
    later.join()


def test_a_process_that_exits_slowly_on_a_busy_node_is_waited_for_until_it_has_exited(
    tmp_path: Path, unseen: socket.socket
) -> None:
    exits = subprocess.Popen(["sleep", "600"])
    found = identify(exits.pid)
    assert found is not None

    def exit_now() -> list[ProcessId]:
        def exit_at_last() -> None:
            unseen.close()
            exits.kill()

        threading.Timer(0.2, exit_at_last).start()
        return [found]

    assert not is_held_unseen(tmp_path / "alive", exit_now=exit_now)
    assert exits.wait() < 0


def test_a_process_that_has_exited_counts_as_one_that_exits(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    process = identify(child.pid)
    assert process is not None
    assert wait_gone(process, 60)
    assert process in exiting()
    child.wait()
    assert process not in exiting()
    me = identify(os.getpid())
    assert me not in exiting()


def test_without_a_lock_nothing_runs(tmp_path: Path) -> None:
    assert not is_held_unseen(tmp_path / "alive")
    (tmp_path / "alive").touch()
    assert not is_held_unseen(tmp_path / "alive")


def test_the_life_locks_of_a_directory_that_goes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nic0.alive").touch()
    (tmp_path / "alive").touch()
    assert [path.name for path in life_locks(tmp_path)] == ["alive", "nic0.alive"]
    # It is still a directory when it is looked at, and gone when it is read.
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    assert life_locks(tmp_path / "gone") == [tmp_path / "gone" / "alive"]
