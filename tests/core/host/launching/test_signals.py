"""Launched programs have default signals and a known exit status, for any signals of the host application."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hvcore.host.launching.launch import Child, launch, life_lock, run_tool
from hvcore.host.launching.signals import reporting, with_default_signals
from hvcore.host.processes.process import wait_readable
from hvcore.plugin import AsUser, Command, Ended, Sandbox


def wait_for_every_child(*_: object) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.fixture(params=[signal.SIG_IGN, wait_for_every_child], ids=["ignores", "waits for every child"])
def children_are_taken(request: pytest.FixtureRequest) -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, request.param)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def odd_signals() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTSTP, signal.SIGRTMIN + 2)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


def tool(tmp_path: Path, *argv: str) -> tuple[Ended | None, str]:
    return run_tool(argv, life=tmp_path / "alive", status=tmp_path / "status", deadline_s=20)


def launched(tmp_path: Path, *argv: str, **more: Any) -> Child:
    with life_lock(tmp_path / "alive") as life_fd:
        command = Command(argv=argv, **more)
        return launch(command, life_fd=life_fd, status=tmp_path / "status", log=tmp_path / "log")


@pytest.mark.usefixtures("children_are_taken")
@pytest.mark.parametrize(
    ("script", "ended"), [("exit 0", Ended(code=0)), ("exit 32", Ended(code=32)), ("kill -9 $$", Ended(signal=9))]
)
def test_the_exit_status_of_a_tool_is_known(tmp_path: Path, script: str, ended: Ended) -> None:
    assert tool(tmp_path, "sh", "-c", f"echo said; {script}") == (ended, "said")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.usefixtures("children_are_taken")
def test_a_sandbox_exits_with_its_program(tmp_path: Path) -> None:
    child = launched(tmp_path, "false", sandbox=Sandbox(who=AsUser(1_880_000_000)))
    assert wait_readable(child.pidfd, 20)
    child.close()


def test_a_child_that_the_host_application_reaped_is_not_a_success(tmp_path: Path) -> None:
    popen = subprocess.Popen(["false"])
    child = Child(popen, tmp_path / "status")
    os.waitpid(popen.pid, 0)
    ended = child.ended()
    assert ended is not None
    assert (ended.code, ended.signal) == (None, None)
    assert "exit code unknown: the host application" in str(ended)
    child.close()


def test_a_child_that_was_reaped_before_it_could_be_watched_has_ended(tmp_path: Path) -> None:
    popen = subprocess.Popen(["false"])
    os.waitpid(popen.pid, 0)
    child = Child(popen, tmp_path / "status")
    assert child.wait(20) == child.ended() == Ended()
    assert child.made(20) is None
    child.close()


@pytest.mark.usefixtures("odd_signals")
def test_signals_ignored_or_blocked_here_have_their_default_in_the_child(tmp_path: Path) -> None:
    grep = ("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    none = ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]
    assert tool(tmp_path, *grep)[1].splitlines() == none
    child = launched(tmp_path, *grep, sandbox=None)
    assert child.wait(20) == Ended(code=0)
    assert (tmp_path / "log").read_text().splitlines() == none
    child.close()


def test_default_signals_need_no_prefix() -> None:
    before = {
        number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
    }
    try:
        assert with_default_signals() == ()
        assert reporting(9) == ((), ())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
