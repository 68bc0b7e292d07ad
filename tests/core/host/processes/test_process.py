"""The identity of processes."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hvcore.deadline import Deadline
from hvcore.host.hurry import hurried_deadline
from hvcore.host.processes import process as module
from hvcore.host.processes.process import (
    alive,
    boot_id,
    figures,
    first_readable,
    identify,
    kill_and_wait,
    pidfile_lock_holder,
    verified_pidfd,
    wait_gone,
    wait_readable,
)
from hvcore.host.processes.search import processes_holding
from hvcore.model.record import ProcessId

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as popen:
        yield popen
        popen.kill()


def known(pid: int) -> ProcessId:
    found = identify(pid)
    assert found is not None
    return found


def test_a_living_process_is_identified_again(sleeper: subprocess.Popen[bytes]) -> None:
    assert identify(sleeper.pid) == known(sleeper.pid)
    assert alive(known(sleeper.pid))
    assert known(os.getpid()).boot_id == boot_id()


def test_a_free_pid_is_not_a_process() -> None:
    with subprocess.Popen(["true"]) as popen:
        popen.wait()
    assert identify(popen.pid) is None


def test_a_zombie_is_gone_and_has_no_figures() -> None:
    popen = subprocess.Popen(["sleep", "100"])
    process = known(popen.pid)
    popen.kill()
    assert wait_gone(process, 5)
    assert identify(popen.pid) == process  # the number is still taken
    assert not alive(process)
    assert figures(process) is None
    assert kill_and_wait(process, subject="web1", deadline_s=1) is False
    popen.wait()


@pytest.mark.live
@pytest.mark.skipif(not os.access(LAST_PID, os.W_OK), reason="needs to write ns_last_pid")
def test_a_process_with_the_reused_pid_of_a_dead_one_is_not_killed() -> None:
    first = subprocess.Popen(["sleep", "100"])
    dead = known(first.pid)
    first.kill()
    first.wait()
    for _ in range(200):
        LAST_PID.write_text(str(dead.pid - 1))
        second = subprocess.Popen(["sleep", "100"])
        if second.pid == dead.pid and known(second.pid) != dead:
            break
        second.kill()
        second.wait()
    else:
        pytest.skip("another process always took the number")
    try:
        assert not alive(dead)
        assert wait_gone(dead, 0)
        assert figures(dead) is None
        assert kill_and_wait(dead, subject="web1", deadline_s=1) is False
        assert second.poll() is None
    finally:
        second.kill()
        second.wait()


def test_a_pid_that_now_belongs_to_a_thread_means_gone() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id is not None
        there = replace(known(os.getpid()), pid=thread.native_id, start_ticks=known(thread.native_id).start_ticks)
        assert not alive(there)
        assert wait_gone(there, 0)
        assert kill_and_wait(there, subject="web1", deadline_s=1) is False
    finally:
        done.set()
        thread.join()


def test_a_process_of_another_boot_is_gone_even_if_its_pid_is_in_use(sleeper: subprocess.Popen[bytes]) -> None:
    before = replace(known(sleeper.pid), boot_id="another")
    assert not alive(before)
    assert kill_and_wait(before, subject="web1", deadline_s=1) is False
    assert figures(before) is None
    assert sleeper.poll() is None


def test_a_stopped_process_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    process = known(sleeper.pid)
    sleeper.send_signal(signal.SIGSTOP)
    assert kill_and_wait(process, subject="web1", deadline_s=60) is True
    assert sleeper.wait() == -signal.SIGKILL


def test_waiting_for_a_living_process_ends_at_the_deadline(sleeper: subprocess.Popen[bytes]) -> None:
    assert wait_gone(known(sleeper.pid), 0.01) is False


def test_a_wait_may_be_longer_than_the_kernel_can_count() -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    assert wait_readable(read, float("inf"))
    assert wait_readable(read, 1e12)
    assert wait_readable(read, -1.0)
    os.close(read)
    os.close(write)


def test_an_answer_or_the_end_of_the_child_whichever_comes_first() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen(["sleep", "100"]) as child:
        end = os.pidfd_open(child.pid)
        try:
            both = (ours.fileno(), end)
            assert first_readable(both, 0.0) == frozenset()
            assert first_readable((), 0.0) == frozenset()
            theirs.send(b"ready")
            assert first_readable(both, 60.0) == {ours.fileno()}
            child.kill()
            assert first_readable((end,), 60.0) == {end}
            assert first_readable(both, 60.0) == set(both)
            assert ours.recv(5) == b"ready"
            assert first_readable(both, 60.0) == {end}
        finally:
            os.close(end)


def test_a_stop_by_force_ends_the_wait_for_several(tmp_path: Path) -> None:
    """Once, as for one descriptor: the next wait is as long as the deadline allows, which is over."""
    read, write = os.pipe()
    tmp_path.chmod(0o700)
    try:
        with hurried_deadline(tmp_path, Deadline(60)) as hurried:
            assert hurried.fd is not None
            assert first_readable((read,), 0.01) == frozenset()
            os.write(write, b"x")
            assert first_readable((read,), 60.0) == {read}
    finally:
        os.close(read)
        os.close(write)


def test_no_descriptor_stays_open(sleeper: subprocess.Popen[bytes]) -> None:
    before = os.listdir("/proc/self/fd")
    with verified_pidfd(known(sleeper.pid)) as fd:
        assert fd is not None
    with verified_pidfd(replace(known(sleeper.pid), start_ticks=1)) as fd:
        assert fd is None
    assert os.listdir("/proc/self/fd") == before


def test_figures_are_of_this_process_and_in_their_units() -> None:
    block = bytearray(os.urandom(1) * (64 * 1024 * 1024))
    found = figures(known(os.getpid()))
    assert found is not None
    assert 64 < found.resident_mib < 4096
    times = os.times()
    assert abs(found.cpu_seconds - (times.user + times.system)) < 0.5
    assert 0 < found.uptime_s < 24 * 3600
    assert len(block) > 0


def test_a_command_name_full_of_parentheses_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x) "
    shutil.copy2("/bin/sleep", program)
    with subprocess.Popen([program, "100"]) as popen:
        assert known(popen.pid).start_ticks >= known(os.getpid()).start_ticks
        assert alive(known(popen.pid))
        popen.kill()


def test_the_holder_of_a_posix_lock_is_named(tmp_path: Path, in_child: Callable[..., int]) -> None:
    path = tmp_path / "pid"
    path.touch()
    ready, go_on = os.pipe(), os.pipe()

    def hold() -> None:
        fd = os.open(path, os.O_RDWR)
        fcntl.fcntl(fd, fcntl.F_SETLK, struct.pack("hh4xqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        os.write(ready[1], b"x")
        os.read(go_on[0], 1)

    assert pidfile_lock_holder(path) is None
    pid = in_child(hold, wait=False)
    os.read(ready[0], 1)
    assert pidfile_lock_holder(path) == pid
    os.write(go_on[1], b"x")
    os.waitpid(pid, 0)
    assert pidfile_lock_holder(path) is None
    for fd in (*ready, *go_on):
        os.close(fd)


def test_a_missing_file_or_a_link_has_no_lock_holder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("none")
    assert pidfile_lock_holder(tmp_path / "none") is None
    assert pidfile_lock_holder(tmp_path / "link") is None
    assert processes_holding(tmp_path / "none") == []


def test_processes_with_an_open_file_are_found_by_inode_and_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    os.link(tmp_path / "f", tmp_path / "second-name")
    (tmp_path / "other").touch()
    with (tmp_path / "second-name").open() as file, subprocess.Popen(["sleep", "100"], stdin=file) as popen:
        assert [process.pid for process in processes_holding(tmp_path / "f")] == [popen.pid]
        assert processes_holding(tmp_path / "other") == []
        popen.kill()


def test_every_wait_of_the_module_has_a_deadline() -> None:
    assert module._LONGEST_WAIT_S * 1000 < 2**31
