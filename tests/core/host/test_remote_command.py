"""A command on another node: a line for a line, its own words when it fails, and nothing left of it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from hvcore.deadline import Deadline
from hvcore.errors import NodeError
from hvcore.host.remote_command import RemoteCommand

ECHO = "import sys\nfor line in sys.stdin: print(line.strip().upper(), flush=True)"
Remote = Callable[[str], RemoteCommand]


@pytest.fixture
def remote() -> Iterator[Remote]:
    """``remote("print(1)")``: a Python program as the remote command."""
    made: list[RemoteCommand] = []

    def make(program: str) -> RemoteCommand:
        made.append(RemoteCommand((sys.executable, "-c", program), subject="ssh://b"))
        return made[-1]

    yield make
    for command in made:
        command.close()


def test_each_line_has_its_answer_from_one_process(remote: Remote) -> None:
    command = remote("import os, sys\nfor line in sys.stdin: print(os.getpid(), line.strip(), flush=True)")
    first, second = (command.ask(word, Deadline(30)).split() for word in ("a", "b"))
    assert (first[0], first[1], second[1]) == (second[0], "a", "b")


def test_a_long_answer_arrives_whole(remote: Remote) -> None:
    assert remote("input(); print('x' * 300_000)").ask("a", Deadline(30)) == "x" * 300_000


@pytest.mark.parametrize(
    ("program", "why"),
    [
        (
            "import sys; sys.exit('Permission denied (publickey).')",
            r"Permission denied \(publickey\)\.; check the conn",
        ),
        ("input(); import sys; sys.stderr.write('first\\nlast\\n\\n')", "cannot be asked: last;"),
        ("input()", r"exited with 0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "exited with -9"),
    ],
)
def test_a_command_that_ends_is_an_error_in_its_own_words(remote: Remote, program: str, why: str) -> None:
    command = remote(program)
    with pytest.raises(NodeError, match=f"^ssh://b: cannot be asked: .*{why}|^ssh://b: {why}"):
        command.ask("a", Deadline(30))


def test_the_next_question_starts_it_again(remote: Remote) -> None:
    command = remote("print(input().upper(), flush=True); import sys; sys.exit(1)")
    assert command.ask("a", Deadline(30)) == "A"
    with pytest.raises(NodeError):
        command.ask("b", Deadline(30))
    assert command.ask("c", Deadline(30)) == "C"


def test_a_late_answer_is_not_taken_for_that_of_the_next_question(remote: Remote) -> None:
    command = remote(
        "import sys, time\nfor line in sys.stdin:\n  'a' in line and time.sleep(600)\n  print(line.upper())"
    )
    with pytest.raises(NodeError, match=r"no answer within 0\.2 s"):
        command.ask("a", Deadline(0.2))
    command = remote(ECHO)
    assert command.ask("b", Deadline(30)) == "B"


def test_an_interrupt_at_the_terminal_does_not_reach_it(remote: Remote) -> None:
    program = "import os, signal, sys\nfor line in sys.stdin: print(os.getpgid(0) == int(line), flush=True)"
    import os

    assert remote(program).ask(str(os.getpgid(0)), Deadline(30)) == "False"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_that_is_not_installed_is_named() -> None:
    command = RemoteCommand(("no-such-ssh",), subject="ssh://b")
    with pytest.raises(NodeError, match=r"^ssh://b: cannot run no-such-ssh, got No such file"):
        command.ask("a", Deadline(30))
    command.close()
