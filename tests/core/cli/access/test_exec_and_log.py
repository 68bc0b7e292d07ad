"""``hv exec`` and ``hv log``."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import Process

from hvcore import Instance, Node

pytestmark = pytest.mark.heavy  # a process of hv for each test

HV = (sys.executable, "-c", "from hvcore.cli import main; main()")


@pytest.fixture
def web1(run_dir: Path) -> None:
    Node(run_dir).driver("fake").start(Instance(name="web1", driver="fake"))


@pytest.mark.usefixtures("web1")
class TestExec:
    @pytest.mark.parametrize(
        ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -TERM $$", -15)]
    )
    def test_exec_exits_with_the_exit_code_of_the_program(self, hv_process: Process, script: str, code: int) -> None:
        assert hv_process("exec", "web1", "--", "sh", "-c", script).returncode == code

    def test_exec_passes_bytes_unchanged(self, run_dir: Path) -> None:
        command = [*HV, "exec", "web1", "--", "cat"]
        found = subprocess.run(command, input=b"\x00\xff\x1d\n", capture_output=True, check=False, timeout=300)
        assert (found.returncode, found.stdout, found.stderr) == (0, b"\x00\xff\x1d\n", b"")

    def test_options_after_the_dashes_belong_to_the_program(self, hv_process: Process) -> None:
        assert hv_process("exec", "web1", "--", "echo", "--help", "-x").stdout == b"--help -x\n"

    def test_on_a_terminal_the_program_gets_a_terminal(self, run_dir: Path) -> None:
        master, slave = pty.openpty()
        with subprocess.Popen([*HV, "exec", "web1", "--", "tty"], stdin=slave, stdout=slave, stderr=slave) as process:
            os.close(slave)
            assert process.wait(30) == 0
        assert os.read(master, 1000).startswith(b"/dev/pts/")
        os.close(master)

    def test_exec_without_a_program_is_bad_usage(self, hv_process: Process) -> None:
        assert hv_process("exec", "web1").returncode == 2
        assert hv_process("exec", "web1", "--", "").returncode == 2

    def test_a_paused_instance_runs_nothing(self, hv_process: Process, run_dir: Path) -> None:
        Node(run_dir).pause("web1")
        found = hv_process("exec", "web1", "--", "true")
        assert found.returncode == 1
        assert b"web1: cannot exec while paused" in found.stderr


def test_exec_in_an_unknown_instance_names_the_most_similar_one(hv_process: Process, run_dir: Path) -> None:
    Node(run_dir).driver("fake").start(Instance(name="web10", driver="fake"))
    found = hv_process("exec", "wbe10", "--", "true")
    assert found.returncode == 4
    assert b"did you mean 'web10'?" in found.stderr


@pytest.mark.usefixtures("web1")
def test_a_driver_that_keeps_no_log_says_so(hv_process: Process) -> None:
    found = hv_process("log", "web1")
    assert found.returncode == 3
    assert b"driver fake: does not support log" in found.stderr


@pytest.mark.usefixtures("web1")
def test_the_node_gives_a_command_and_runs_nothing(run_dir: Path) -> None:
    found = Node(run_dir).execution("web1", ["false"], terminal=True)
    assert (found.name, found.argv) == ("web1", ("false",))
