"""A program beside an instance: connected to it before it runs, confined alike, and ended before what it uses."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from hvcore.host.launching.launch import reap
from hvcore.host.processes.launched import members
from hvcore.plugin import (
    ConfinementError,
    DiskInUseError,
    Identity,
    Job,
    Level,
    OperationError,
    Program,
    Site,
    StateDirectory,
    alive,
)
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.resources.program import PROGRAMS, ProgramKind
from hvcore.resources.state_directory import StateDirectoryKind

AtWork = Callable[..., Job]
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
# Writes down what the instance sends, until the connection ends.
COPIES = 'exec 3<&"$1"; while read -r line <&3; do printf "%s\\n" "$line" >> "$2/state"; done'
LEVELS = [pytest.param(Level.OFF, id="off"), pytest.param(Level.STRICT, id="strict", marks=[pytest.mark.live, ROOT])]


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    """``program(script)``: a shell with that script, which gets its end of the connection and its state directory."""
    path = tmp_path / "state"
    path.mkdir()

    def make(script: str = COPIES, *, key: str = "helper", binary: str = "/usr/bin/bash", **more: Any) -> Program:
        owner = Identity(key=f"{key}.uid")
        state = StateDirectory(
            key=f"{key}.state",
            given_by="params.helper_state",
            path=str(path),
            package="helper",
            owner=owner,
            lock=".lock",
            keeps=("state",),
        )
        arguments = ("-c", script, "helper", "{fd}", "{state}")
        return Program(
            key=key, given_by="params.helper", binary=binary, package="bash", arguments=arguments, state=state, **more
        )

    return make


@pytest.fixture(autouse=True)
def _none_is_left(run_dir: Path) -> Iterator[None]:
    yield
    for directory in (run_dir / "instances").glob("*"):
        for process in members(directory / "helper.alive", directory / "helper.status"):
            os.kill(process.pid, signal.SIGKILL)
    reap()


@pytest.mark.parametrize("level", LEVELS)
def test_it_is_connected_keeps_its_state_and_ends_with_the_release(
    at_work: AtWork,
    program: Callable[..., Program],
    tmp_path: Path,
    eventually: Callable[..., None],
    level: Level,
) -> None:
    tmp_path.chmod(0o755)
    job, wanted, state = at_work(level=level), program(), tmp_path / "state"
    before = state.stat().st_uid
    end = int(job.acquire(wanted)[wanted])
    assert [entry.kind for entry in job.record.ledger if entry.key == "helper"] == ["companion"]
    os.write(end, b"hello\n")
    eventually((state / "state").exists)
    user = job.held[wanted.user]
    assert (user is not None) == (level is Level.STRICT)
    assert state.stat().st_uid == (before if user is None else user.uid)
    job.prove(wanted, level=level)
    found = members(job.dir / "helper.alive", job.dir / "helper.status")
    assert found
    job.held.close()  # the end of the connection that no program has any more
    job.release()
    assert not any(alive(process) for process in found)
    assert (state / "state").read_text() == "hello\n"
    assert state.stat().st_uid == before


def test_one_that_does_not_end_with_its_connection_is_ended(at_work: AtWork, program: Callable[..., Program]) -> None:
    job, wanted = at_work(level=Level.OFF), program("sleep 100")
    job.acquire(wanted)
    found = members(job.dir / "helper.alive", job.dir / "helper.status")
    assert found
    job.release("helper")
    assert not any(alive(process) for process in found)
    assert [entry.key for entry in job.record.ledger] == ["helper.state"]


@pytest.mark.live
@ROOT
def test_the_end_of_a_recorded_program_needs_no_search(
    at_work: AtWork,
    program: Callable[..., Program],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    eventually: Callable[..., None],
) -> None:
    """A search of /proc takes longer than the rest of a stop."""
    tmp_path.chmod(0o755)
    job, wanted = at_work(), program()
    os.write(int(job.acquire(wanted)[wanted]), b"hello\n")
    eventually((tmp_path / "state/state").exists)
    job.prove(wanted, level=Level.STRICT)
    found = members(job.dir / "helper.alive", job.dir / "helper.status")
    job.held.close()
    for name in ("members", "end_members"):
        monkeypatch.setattr(f"hvcore.resources.program.{name}", lambda *_: pytest.fail("searched"))
    job.release()
    assert not any(map(alive, found))


@pytest.mark.live
@ROOT
@pytest.mark.parametrize("first", ["monitor", "process"])
def test_what_outlives_a_recorded_process_is_ended(
    at_work: AtWork, program: Callable[..., Program], tmp_path: Path, eventually: Callable[..., None], first: str
) -> None:
    tmp_path.chmod(0o755)
    job, wanted = at_work(), program("trap '' TERM; sleep 100 & echo >$2/state; sleep 100")
    job.acquire(wanted)
    eventually((tmp_path / "state/state").exists)
    job.prove(wanted, level=Level.STRICT)
    found = members(job.dir / "helper.alive", job.dir / "helper.status")
    os.kill(job.record.bindings[PROGRAMS]["helper"][first]["pid"], signal.SIGKILL)
    job.release()
    assert not any(map(alive, found))


def test_a_program_that_exits_at_once_is_reported_with_its_output(
    at_work: AtWork, program: Callable[..., Program], eventually: Callable[..., None]
) -> None:
    job, wanted = at_work(level=Level.OFF), program("echo no state; exit 3")
    job.acquire(wanted)

    def refused() -> str:
        reap()  # until it is collected it can still be found
        try:
            job.prove(wanted, level=Level.OFF)
        except OperationError as error:
            return str(error)
        return ""

    eventually(refused)
    assert refused() == "web1: /usr/bin/bash ended at once: no state"


@pytest.mark.live
@ROOT
def test_a_program_whose_launch_takes_longer_than_the_instance_is_waited_for(
    at_work: AtWork, program: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, real = tmp_path / "bin" / "bwrap", shutil.which("bwrap")
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep 0.3\nexec {real} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    job, wanted = at_work(level=Level.STRICT), program()
    job.acquire(wanted)
    job.prove(wanted, level=Level.STRICT)
    assert job.record.bindings[PROGRAMS]["helper"]["process"]["pid"]


@pytest.mark.parametrize(("weak_for", "refused"), [(3, False), (10**6, True)])
def test_a_program_is_confined_some_time_after_it_is_reported(
    at_work: AtWork,
    program: Callable[..., Program],
    monkeypatch: pytest.MonkeyPatch,
    weak_for: int,
    *,
    refused: bool,
) -> None:
    looks = iter(range(10**9))
    monkeypatch.setattr("hvcore.resources.program._SET_UP_S", 0.05)
    monkeypatch.setattr(
        "hvcore.resources.program.weaknesses", lambda *_: ["has no filter"] if next(looks) < weak_for else []
    )
    job, wanted = at_work(level=Level.OFF), program()
    job.acquire(wanted)
    with pytest.raises(ConfinementError, match="less than requested") if refused else nullcontext():
        job.prove(wanted, level=Level.OFF)
    assert ("process" in job.record.bindings[PROGRAMS]["helper"]) is not refused


def test_a_directory_has_one_program(at_work: AtWork, program: Callable[..., Program]) -> None:
    first, second, wanted = at_work("web1", level=Level.OFF), at_work("web2", level=Level.OFF), program("sleep 100")
    first.acquire(wanted)
    with pytest.raises(DiskInUseError, match="already in use by instance web1"):
        second.acquire(wanted)
    first.release()
    assert wanted.state is not None
    assert second.acquire(wanted.state)[wanted.state] > 0


def test_other_things_in_the_directory_are_refused_before_and_at_the_start(
    at_work: AtWork, program: Callable[..., Program], site: Callable[..., Site], tmp_path: Path
) -> None:
    wanted = program()
    (tmp_path / "state" / "letter.txt").touch()
    assert wanted.state is not None
    (problem,) = StateDirectoryKind().verify(wanted.state, site())
    what = "holds 'letter.txt', which does not belong to helper"
    assert str(problem).startswith(f"params.helper_state: {what}")
    with pytest.raises(OperationError, match=f"{what}; name another in helper_state"):
        at_work(level=Level.OFF).acquire(wanted)


def test_a_missing_program_is_reported_before_the_start(
    program: Callable[..., Program], site: Callable[..., Site]
) -> None:
    (problem,) = ProgramKind().verify(program(binary="/usr/bin/no-such-program"), site())
    assert str(problem) == (
        "params.helper: is not a program of this node, got '/usr/bin/no-such-program'; install it (Debian: bash)"
    )


def test_steps_of_a_plan(program: Callable[..., Program], site: Callable[..., Site], tmp_path: Path) -> None:
    wanted = program()
    assert [str(step.what) for step in CORE_KINDS.steps([wanted], site(level=Level.STRICT))] == [
        "take a uid from 1880000000 to 1880000099 that no other program has",
        f"claim {tmp_path}/state, for helper only, while it runs",
        "/usr/bin/bash beside the instance, with its own uid; it ends with the guest",
    ]


MIB = 1 << 20
# 100 MB, then it works as usual.
CHATTERS = "for _ in {{1..100}}; do head -c 1000000 /dev/zero | tr '\\0' 'x' >&2; done; " + COPIES


@pytest.mark.heavy
@pytest.mark.parametrize("level", LEVELS)
def test_one_that_prints_without_end_fills_nothing_and_goes_on(
    at_work: AtWork,
    program: Callable[..., Program],
    tmp_path: Path,
    eventually: Callable[..., None],
    level: Level,
) -> None:
    tmp_path.chmod(0o755)
    job, wanted = at_work(level=level), program(CHATTERS, largest_file_bytes=MIB)
    end = int(job.acquire(wanted, level=level)[wanted])
    os.write(end, b"after it\n")
    eventually(lambda: (tmp_path / "state/state").exists() and (tmp_path / "state/state").read_text() == "after it\n")
    log = job.dir / "helper.log"
    assert log.stat().st_size <= MIB
    assert job.output("helper").startswith("xxx")
    job.prove(wanted, level=level)
    job.release()
    job.update(ledger=())
    # The next one of that key begins a log of its own.
    again = at_work(level=level)
    again.acquire(program("echo one line >&2; " + COPIES, largest_file_bytes=MIB), level=level)
    eventually(lambda: log.read_bytes() == b"one line\n")
    again.release()


def test_without_a_bound_it_writes_large_files(
    at_work: AtWork, program: Callable[..., Program], tmp_path: Path, eventually: Callable[..., None]
) -> None:
    job = at_work()
    job.acquire(program('head -c 3000000 /dev/zero > "$2/state"; ' + COPIES), level=Level.OFF)
    eventually(lambda: (tmp_path / "state/state").exists() and (tmp_path / "state/state").stat().st_size == 3_000_000)
    job.release()
