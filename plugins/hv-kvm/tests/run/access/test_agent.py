"""Programs in a guest by its agent: input, output and exit status, and an agent that is off, strange or hostile."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_agent import FakeAgent, fake_agent
from world import World

import hvcore
from hv_kvm.qmp.agent import reach_agent
from hv_kvm.run.access.agent_exec import main, run

RUNNER = (sys.executable, "-P", "-m", "hv_kvm.run.access.agent_exec")


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # short enough for a socket
        yield Path(folder) / "qga"


@pytest.fixture
def agent(path: Path) -> Iterator[FakeAgent]:
    with fake_agent(path) as found:
        yield found


@dataclass(frozen=True)
class Ended:
    """How a run ended, as `subprocess.CompletedProcess` has it."""

    returncode: int
    stdout: bytes
    stderr: bytes


Ran = Callable[..., Ended]


@pytest.fixture
def ran(path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Runs a program by the agent, in this process."""

    def call(*argv: str, stdin: bytes = b"", source: str = "read") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main([str(path), "web1", source, *argv])
        return Ended(status, *capsysbinary.readouterr())

    return call


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    ("script", "stdin", "status", "out", "err"),
    [
        ("exit 0", b"", 0, b"", b""),
        ("exit 7", b"", 7, b"", b""),
        ("echo a; echo b >&2; exit 3", b"", 3, b"a\n", b"b\n"),
        ("cat", b"\x00\xff\n", 0, b"\x00\xff\n", b""),
        ("kill -9 $$", b"", 137, b"", b""),
        ('printf "%s|" "$@"', b"", 0, b"a b|--help|'|", b""),
    ],
    ids=["nothing", "a status", "both outputs", "bytes", "a signal", "arguments"],
)
def test_a_program_in_the_guest_is_like_one_here(
    ran: Ran, script: str, stdin: bytes, status: int, out: bytes, err: bytes
) -> None:
    found = ran("sh", "-c", script, "sh", "a b", "--help", "'", stdin=stdin)
    assert (found.returncode, found.stdout, found.stderr) == (status, out, err)


def test_on_a_terminal_the_input_is_empty(ran: Ran, agent: FakeAgent) -> None:
    assert ran("cat", stdin=b"typed", source="none").stdout == b""
    assert agent.asked[:2] == ["guest-sync", "guest-exec"]


def test_a_program_that_cannot_be_run_gives_125_and_the_words_of_the_agent(ran: Ran, agent: FakeAgent) -> None:
    found = ran("/none")
    assert found.returncode == 125
    assert b"hv: web1: the guest agent refuses guest-exec" in found.stderr
    assert b"No such file" in found.stderr
    agent.replies["guest-exec"] = lambda _: {"error": {"desc": "The command guest-exec has been disabled"}}
    assert b"has been disabled" in ran("true").stderr


def test_too_much_input_is_refused_before_anything_runs(ran: Ran, agent: FakeAgent) -> None:
    found = ran("cat", stdin=bytes((8 << 20) + 1))
    assert found.returncode == 125
    assert b"takes at most 8 MiB" in found.stderr
    assert agent.asked == []


def test_it_asks_again_until_the_program_has_ended(path: Path, agent: FakeAgent) -> None:
    answers = [{"exited": False}] * 3 + [{"exited": True, "exitcode": 4, "out-truncated": True}]
    agent.replies["guest-exec-status"] = lambda _: {"return": answers.pop(0)}
    assert run(str(path), "web1", ["true"], b"") == (4, b"", b"", True)


def test_answers_that_a_client_before_has_not_read_are_skipped(ran: Ran, agent: FakeAgent) -> None:
    agent.first = b'{"return": {"pid": 1}}\n{"error": {"desc": "late"}}\n\n'
    assert ran("echo", "a").stdout == b"a\n"


def test_an_agent_that_is_off_is_named(path: Path, agent: FakeAgent) -> None:
    agent.replies["guest-sync"] = lambda _: b""
    with (
        pytest.raises(hvcore.OperationError, match=r"web1: the guest agent does not answer within 0.2 s; install"),
        reach_agent(str(path), "web1", deadline_s=0.2),
    ):
        pass


@pytest.mark.parametrize(
    ("command", "answer", "what"),
    [
        ("guest-sync", b"SSH-2.0\n", "not JSON"),
        ("guest-sync", b"[1]\n", "not a JSON object"),
        ("guest-exec", {"return": 5}, "which is not a table"),
        ("guest-exec", {"error": "\x1b[2J" * 1000}, "refuses guest-exec"),
        ("guest-exec", {}, "refuses guest-exec"),
        ("guest-exec-status", {"return": []}, "which is not a table"),
    ],
)
def test_an_agent_of_an_attacker_gets_an_error_and_no_more(
    ran: Ran, agent: FakeAgent, command: str, answer: Any, what: str
) -> None:
    agent.replies[command] = lambda _: answer
    found = ran("true")
    assert found.returncode == 125
    assert what in found.stderr.decode()
    assert b"\x1b" not in found.stderr
    assert len(found.stderr) < 1000


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"exited": True, "exitcode": 1 << 40}, (0, b"", b"", False)),
        ({"exited": True, "signal": 1 << 40}, (128, b"", b"", False)),
        ({"exited": True, "exitcode": "x", "out-data": "***", "err-data": 5}, (125, b"", b"", False)),
        ({"exited": True, "exitcode": True}, (1, b"", b"", False)),
    ],
)
def test_a_strange_status_is_an_exit_status(path: Path, agent: FakeAgent, status: Any, expected: object) -> None:
    agent.replies["guest-exec-status"] = lambda _: {"return": status}
    assert run(str(path), "web1", ["true"], b"") == expected


def test_an_interrupt_says_that_the_program_goes_on(path: Path, agent: FakeAgent) -> None:
    agent.replies["guest-exec-status"] = lambda _: {"return": {"exited": False}}
    command = [*RUNNER, str(path), "web1", "none", "true"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        while "guest-exec-status" not in agent.asked:
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"the program goes on in the guest" in said


@pytest.mark.live
def test_an_instance_says_how_to_reach_its_agent(world: World) -> None:
    world.start(use_guest_agent=True)
    argv = world.node.execution("web1", ["uname", "-a"], terminal=False).argv
    assert argv[-4:] == ("web1", "read", "uname", "-a")
    world.node.stop("web1", force=True)
    world.start("web2")
    with pytest.raises(hvcore.OperationError, match="set use_guest_agent = true"):
        world.node.execution("web2", ["true"])
    world.node.stop("web2", force=True)
