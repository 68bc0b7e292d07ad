"""One writer per lock, the holder is named, and a crash leaves nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from fixture_types import InChild

from hvcore.errors import BusyError, NodeError
from hvcore.host.lock import close_in_children, close_lock, has_lock_here, held_lock, is_held


def hold_until(path: Path, ready: int, go_on: int) -> None:
    with held_lock(path, subject="web1", purpose="start web1"):
        os.write(ready, b"x")
        os.read(go_on, 1)


def test_the_holder_is_named_with_its_operation(tmp_path: Path, in_child: InChild) -> None:
    ready, go_on = os.pipe(), os.pipe()
    pid = in_child(hold_until, tmp_path / "l", ready[1], go_on[0], wait=False)
    os.read(ready[0], 1)
    assert is_held(tmp_path / "l")
    with (
        pytest.raises(BusyError, match=rf"web1: busy, held by pid {pid} \(start web1\) for more than 0 s") as caught,
        held_lock(tmp_path / "l", subject="web1", purpose="stop", wait_s=0),
    ):
        pass
    assert caught.value.exit_code == 5
    os.write(go_on[1], b"x")
    with held_lock(tmp_path / "l", subject="web1", purpose="stop"):
        pass
    assert not (tmp_path / "l").exists()
    for fd in (*ready, *go_on):
        os.close(fd)


def test_the_lock_is_free_once_its_holder_was_killed(tmp_path: Path, in_child: InChild) -> None:
    ready, go_on = os.pipe(), os.pipe()
    pid = in_child(hold_until, tmp_path / "l", ready[1], go_on[0], wait=False)
    os.read(ready[0], 1)
    os.kill(pid, signal.SIGKILL)
    with held_lock(tmp_path / "l", subject="web1", purpose="stop"):
        assert is_held(tmp_path / "l")
    for fd in (*ready, *go_on):
        os.close(fd)


def test_a_child_forked_by_the_holder_neither_keeps_nor_releases_the_lock(tmp_path: Path, in_child: InChild) -> None:
    path, pipe = tmp_path / "l", os.pipe()

    def child() -> None:
        os.close(pipe[1])  # so that the child exits with us in any case
        os.read(pipe[0], 1)

    def holder_that_forks_and_dies() -> None:
        with held_lock(path, subject="web1", purpose="start"):
            grandchild = os.fork()
            if grandchild == 0:
                os.close(pipe[1])
                os.read(pipe[0], 1)
                os._exit(0)
            os._exit(0)

    with held_lock(path, subject="web1", purpose="start"):
        in_child(child, wait=False)
    with held_lock(path, subject="web1", purpose="again", wait_s=0):
        pass  # the child lives and does not hold it
    assert in_child(holder_that_forks_and_dies) == 0
    with held_lock(path, subject="web1", purpose="again"):
        pass  # neither does one whose parent was killed in the middle
    os.close(pipe[0])
    os.close(pipe[1])


def test_a_forked_child_that_leaves_the_block_leaves_the_lock_to_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "l"
    pid = -1
    try:
        with held_lock(path, subject="web1", purpose="start"):
            pid = os.fork()
            if pid == 0:
                raise SystemExit  # as the host application's code may do
            assert os.waitpid(pid, 0)[1] == 0
            assert path.exists()
            assert is_held(path)
    finally:
        if pid == 0:
            os._exit(0)
    assert not path.exists()


def test_many_processes_are_never_in_the_block_together(tmp_path: Path, in_child: InChild) -> None:
    """The file is unlinked each time: a process that locked the old file must notice."""
    path, inside = tmp_path / "l", tmp_path / "inside"

    def hammer() -> None:
        for _ in range(60):
            with held_lock(path, subject="x", purpose="hammer", wait_s=60):
                os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                inside.unlink()

    pids = [in_child(hammer, wait=False) for _ in range(6)]
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
    assert os.listdir(tmp_path) == []


def test_threads_exclude_each_other_too(tmp_path: Path) -> None:
    entered, done = threading.Event(), threading.Event()

    def holder() -> None:
        with held_lock(tmp_path / "l", subject="x", purpose="thread"):
            entered.set()
            done.wait(60)

    thread = threading.Thread(target=holder)
    thread.start()
    entered.wait(60)
    with pytest.raises(BusyError), held_lock(tmp_path / "l", subject="x", purpose="y", wait_s=0.01):
        pass
    done.set()
    thread.join()


def test_waiting_ends_at_its_deadline(tmp_path: Path) -> None:
    begun = time.monotonic()
    with (
        held_lock(tmp_path / "l", subject="x", purpose="a"),
        pytest.raises(BusyError, match=r"for more than 0\.1 s"),
        held_lock(tmp_path / "l", subject="x", purpose="b", wait_s=0.1),
    ):
        pass
    assert 0.1 <= time.monotonic() - begun < 30  # it is never released


def test_an_exception_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), held_lock(tmp_path / "l", subject="x", purpose="a"):
        raise KeyboardInterrupt
    assert not is_held(tmp_path / "l")
    assert not (tmp_path / "l").exists()


def test_keep_leaves_the_file(tmp_path: Path) -> None:
    with held_lock(tmp_path / "l", subject="x", purpose="a", keep=True):
        pass
    assert (tmp_path / "l").exists()
    assert not is_held(tmp_path / "l")


def test_a_started_program_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with held_lock(tmp_path / "l", subject="x", purpose="a") as fd:
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_an_interrupt_while_waiting_leaves_no_descriptor(tmp_path: Path, in_child: InChild) -> None:
    """The fixture of every test checks for open descriptors."""
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    with held_lock(tmp_path / "l", subject="x", purpose="a"):
        timer.start()
        with pytest.raises(KeyboardInterrupt), held_lock(tmp_path / "l", subject="x", purpose="b", wait_s=10):
            pass
    timer.join()


@pytest.mark.parametrize("path", ["none/l", "link"])
def test_a_lock_file_that_cannot_be_made_is_an_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with (
        pytest.raises(NodeError, match="web1: cannot be locked"),
        held_lock(tmp_path / path, subject="web1", purpose="a"),
    ):
        pass


def test_a_lock_of_this_process_is_known_also_beside_descriptors_that_somebody_closed(tmp_path: Path) -> None:
    path, other = tmp_path / "lock", tmp_path / "other"
    fds = [os.open(each, os.O_RDONLY | os.O_CREAT, 0o600) for each in (other, path)]
    for fd in fds:
        close_in_children(fd)
    os.close(fds[0])
    assert has_lock_here(path)
    assert not has_lock_here(tmp_path / "none")
    assert not has_lock_here(other)
    close_lock(fds[1])
    assert not has_lock_here(path)
    close_in_children(fds[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        close_lock(fds[0])
