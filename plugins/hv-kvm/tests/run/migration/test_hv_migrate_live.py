"""``hv migrate`` with real guests: to another run directory, and to hv behind a program named ssh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from world import PATIENCE_S, World

import hvcore

pytestmark = pytest.mark.live

SLOW = "64K"
SSH = """#!/bin/sh
for word; do :; done
SSH_CONNECTION="127.0.0.1 1 127.0.0.1 22" exec sh -c "$word"
"""
HV = (sys.executable, "-c", "from hvcore.cli.app import hv; hv.main()")


@pytest.fixture
def nodes(
    tmp_path: Path, worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[World, World]]:
    """Two run directories; a guest that has booted runs in the first, and is ended in both."""
    monkeypatch.setenv("HVCORE_STATE_DIR", str(tmp_path / "state"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("ssh", SSH), ("hv", f"#!/bin/sh\nexec {sys.executable} -c '{HV[2]}' \"$@\"\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir(mode=0o711)
        found.append(worlds(tmp_path / name))
    found[0].start(paused=True)
    found[0].booted()
    yield found[0], found[1]
    for world in found:
        world.node.stop("web1", force=True)


def hv(world: World, *words: str) -> subprocess.Popen[str]:
    """``hv`` in that run directory."""
    command = (*HV, "--run-dir", str(world.node.run_dir), "--config-dir", str(world.node.config_dir), *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def runs_only(here: World, there: World) -> None:
    """The guest runs in the first, and hears its power button; nothing is left in the second."""
    assert there.node.instances() == []
    assert here.info().state is hvcore.State.RUNNING
    assert here.node.stop("web1", deadline_s=PATIENCE_S).stopped_by == "powerdown"


def sending(process: subprocess.Popen[str]) -> None:
    """Wait until hv says that memory is being sent."""
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("progress", {}).get("transfer", {}).get("state") == "active":
            return
    raise AssertionError(process.communicate())


def test_a_guest_moves_by_ssh_and_back_to_a_run_directory(nodes: tuple[World, World]) -> None:
    one, other = nodes
    process = hv(one, "migrate", "web1", "--to", f"ssh://root@other{other.node.run_dir}")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert out.startswith(f"web1: moved to ssh://root@other{other.node.run_dir} (")
    assert one.node.instances() == []
    outcome = other.node.migrations.migrate("web1", f"local:{one.node.run_dir}")
    assert outcome.moved, outcome
    runs_only(one, other)


def test_an_interrupted_migration_leaves_the_guest_where_it_was(nodes: tuple[World, World]) -> None:
    one, other = nodes
    process = hv(one, "migrate", "web1", "--to", f"local:{other.node.run_dir}", "--bandwidth", SLOW, "--json")
    sending(process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGINT
    assert json.loads(out.splitlines()[-1])["moved"] is False
    runs_only(one, other)


@pytest.mark.parametrize("task", ["--resume", pytest.param("--cancel", marks=pytest.mark.slow)])
def test_another_hv_ends_what_a_killed_one_has_left(nodes: tuple[World, World], task: str) -> None:
    one, other = nodes
    process = hv(one, "migrate", "web1", "--to", f"local:{other.node.run_dir}", "--bandwidth", SLOW, "--json")
    sending(process)
    process.kill()
    process.communicate()
    with pytest.raises(hvcore.BusyError, match="is open"):
        one.node.pause("web1")
    if task == "--resume":
        one.node.migrations.tune("web1", hvcore.Tuning(bandwidth_bps=0))
    process = hv(one, "migrate", "web1", task)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, (out, err)
    runs_only(*((other, one) if task == "--resume" else (one, other)))


@pytest.mark.parametrize("side", ["source", pytest.param("target", marks=pytest.mark.slow)])
def test_a_qemu_that_is_killed_on_the_way(nodes: tuple[World, World], side: str) -> None:
    one, other = nodes
    process = hv(one, "migrate", "web1", "--to", f"local:{other.node.run_dir}", "--bandwidth", SLOW, "--json")
    sending(process)
    victim = (one if side == "source" else other).record().process
    assert victim is not None
    os.kill(victim.pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert json.loads(out.splitlines()[-1])["moved"] is False
    if side == "target":
        runs_only(one, other)
    else:
        assert other.node.instances() == []
        assert one.info().state is hvcore.State.CRASHED
        assert one.node.cleanup("web1").changed


@pytest.mark.slow
def test_a_target_that_hangs_can_be_left(nodes: tuple[World, World]) -> None:
    one, other = nodes
    process = hv(one, "migrate", "web1", "--to", f"local:{other.node.run_dir}", "--bandwidth", SLOW, "--json")
    sending(process)
    victim = other.record().process
    assert victim is not None
    os.kill(victim.pid, signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.SIGINT, err
    assert json.loads(out.splitlines()[-1])["moved"] is False
    runs_only(one, other)


@pytest.mark.slow  # a minute
def test_fifty_moves_leave_the_guest_in_one_place_and_nothing_else(nodes: tuple[World, World]) -> None:
    here, there = nodes
    for _ in range(50):
        outcome = here.node.migrations.migrate("web1", f"local:{there.node.run_dir}")
        assert outcome.moved, outcome
        assert here.node.instances() == []
        here, there = there, here
    assert len(here.node.migrations.of("web1")) <= 34
    runs_only(here, there)
