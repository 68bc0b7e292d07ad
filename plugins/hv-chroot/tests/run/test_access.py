"""The console: a shell inside, on a new terminal, through a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from images import Build

import hvcore

pytestmark = pytest.mark.live


class Terminal:
    """A person at a terminal of 40 lines and 100 columns, with the command running on it."""

    def __init__(self, argv: tuple[str, ...]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.seen = b""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def read_until(self, pattern: str, deadline_s: float = 60.0) -> re.Match[bytes]:
        give_up = time.monotonic() + deadline_s
        while True:
            found = re.search(pattern.encode(), self.seen)
            if found:
                self.seen = self.seen[found.end() :]
                return found
            ready, _, _ = select.select([self.fd], [], [], max(0.0, give_up - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.seen[-500:]!r}"
            self.seen += os.read(self.fd, 65536)

    def end(self) -> int:
        """The exit status, after all output has been read."""
        while True:
            try:
                if not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        return code


@pytest.fixture
def console(node: hvcore.Node, images: Any, web1: Build) -> Iterator[Callable[[], Terminal]]:
    node.driver("chroot").start(web1(images()))
    yield lambda: Terminal(node.console("web1").argv)
    node.stop("web1", force=True)


def test_shell_runs_inside_on_a_terminal(console: Callable[[], Terminal]) -> None:
    terminal = console()
    terminal.read_until(r"# ")
    terminal.type("echo $((6*7)) $(hostname) $$\n")
    found = terminal.read_until(r"42 web1 (\d+)")
    assert int(found[1]) < 100
    terminal.type("stty size\n")
    terminal.read_until(r"40 100")
    terminal.type("ps; ls /ganeti-chroot\n")
    terminal.read_until(r"sleep 1000")
    terminal.read_until(r"/ganeti-chroot")
    terminal.type("exit 5\n")
    assert terminal.end() == 5


def test_shell_is_confined_like_the_rest(console: Callable[[], Terminal]) -> None:
    terminal = console()
    terminal.read_until(r"# ")
    terminal.type("grep -E 'CapBnd|CapEff|NoNew' /proc/self/status\n")
    assert int(terminal.read_until(r"CapEff:\s+([0-9a-f]+)")[1], 16) & ~0xA00405FB == 0
    assert int(terminal.read_until(r"CapBnd:\s+([0-9a-f]+)")[1], 16) & ~0xA00405FB == 0
    terminal.read_until(r"NoNewPrivs:\s+1")
    terminal.type("exit\n")
    assert terminal.end() == 0


def test_control_c_reaches_the_program_inside_only(console: Callable[[], Terminal]) -> None:
    terminal = console()
    terminal.read_until(r"# ")
    terminal.type("sh -c 'echo in front $((1+1)); exec sleep 500'\n")
    terminal.read_until(r"in front 2")  # the shell has put it into the foreground before it executes it
    terminal.type("\x03")
    terminal.read_until(r"# ")
    terminal.type("echo still-$((1+1))-here\nexit\n")
    terminal.read_until(r"still-2-here")
    assert terminal.end() == 0


def test_size_inside_follows_that_of_the_window(console: Callable[[], Terminal]) -> None:
    terminal = console()
    terminal.read_until(r"# ")
    terminal.type("stty size; until stty size | grep '50 132'; do sleep 0.05; done\n")
    terminal.read_until(r"40 100")
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
    terminal.read_until(r"50 132")
    terminal.read_until(r"# ")
    terminal.type("exit\n")
    assert terminal.end() == 0


def test_console_of_a_paused_instance_is_refused(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    node.pause("web1")
    with pytest.raises(hvcore.OperationError, match=r"web1: no console while the instance is paused.*resume it first"):
        node.console("web1")
    with pytest.raises(hvcore.StateError, match="cannot exec while paused"):
        node.execution("web1", ("/bin/true",))
    node.stop("web1", force=True)


def test_megabytes_come_through_whole(console: Callable[[], Terminal]) -> None:
    terminal = console()
    terminal.read_until(r"# ")
    terminal.type("yes 0123456789abcde | head -n 200000; echo do''ne; exit\n")
    total = 0
    while b"done" not in terminal.seen:
        total += len(terminal.seen[:-10])
        terminal.seen = terminal.seen[-10:] + os.read(terminal.fd, 65536)
    assert total + len(terminal.seen) > 200000 * 17
    assert terminal.end() == 0


def test_background_job_does_not_keep_the_console_open(console: Callable[[], Terminal]) -> None:
    terminal = console()
    terminal.read_until(r"# ")
    terminal.type("trap '' HUP; sleep 900 &\nexit\n")
    assert terminal.end() == 0


def test_without_a_terminal_input_comes_from_a_pipe(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    argv = node.console("web1").argv
    ran = subprocess.run(argv, input=b"echo $((6*7))\nexit 3\n", capture_output=True, check=False, timeout=300)
    assert b"42" in ran.stdout
    assert ran.returncode == 3
    node.stop("web1", force=True)


def test_stop_ends_an_open_console(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    terminal = Terminal(node.console("web1").argv)
    terminal.read_until(r"# ")
    assert node.stop("web1").stopped_by == "term"
    assert terminal.end() == 137


def test_console_of_an_instance_that_has_ended_since(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    argv = node.console("web1").argv
    node.stop("web1", force=True)
    ran = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=300)
    assert ran.returncode == 125
    assert re.search(rb"enter: cannot enter the instance, got No such [a-z ]+; has it ended\?", ran.stderr)


def test_without_a_shell_the_console_is_refused(node: hvcore.Node, images: Any, web1: Build) -> None:
    tree = images.tree("#!/bin/busybox sh\n[ $1 = stop ] || busybox sleep 1000 &\n")
    (tree / "bin/sh").unlink()
    node.driver("chroot").start(web1(images.pack(tree)))
    with pytest.raises(hvcore.OperationError, match="web1: no console, /bin/sh in the root does not exist"):
        node.console("web1")
    node.stop("web1", force=True)


@pytest.mark.parametrize("key", ["\x03", "\x1c", "\x1a"], ids=["^C", "^backslash", "^Z"])
def test_keys_of_the_terminal_do_not_reach_what_keeps_the_instance(
    node: hvcore.Node, images: Any, web1: Build, key: str
) -> None:
    """The process that keeps the instance while its daemon is restarted is not one of the terminal's."""
    node.driver("chroot").start(web1(images()))
    terminal = Terminal(node.console("web1").argv)
    terminal.read_until(r"# ")
    terminal.type("echo re''ady; read line\n")
    terminal.read_until(r"ready")
    terminal.type(f"{key}\n")  # at its prompt the shell takes keys itself
    terminal.read_until(r"# ")
    terminal.type("kill $(cat /daemon); sleep 1; echo st''ill here\n")
    terminal.read_until(r"still here")
    terminal.type("exit\n")
    assert terminal.end() == 0
    give_up = time.monotonic() + 60
    while node.info("web1").state is not hvcore.State.SHUTDOWN:  # nothing is left, so the init ends
        assert time.monotonic() < give_up
    node.stop("web1")


def test_daemon_may_be_restarted_from_the_console(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    terminal = Terminal(node.console("web1").argv)
    terminal.read_until(r"# ")
    terminal.type("kill $(cat /daemon); sleep 1000 &\necho a''gain\nexit\n")
    terminal.read_until(r"again")
    assert terminal.end() == 0
    assert node.info("web1").state is hvcore.State.RUNNING
    node.stop("web1", force=True)


def test_a_console_that_is_a_shell_has_no_history_and_the_log_is_named(
    node: hvcore.Node, images: Any, web1: Build
) -> None:
    node.driver("chroot").start(web1(images()))
    with pytest.raises(hvcore.UnsupportedError, match=r"its console has no history; see 'hv log web1'"):
        node.console_log("web1")
    assert b"up" in b"".join(hvcore.log_pieces(node.log("web1").path))
    node.stop("web1")
