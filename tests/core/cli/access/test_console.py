"""``hv console`` between a pseudo-terminal or a pipe and a fake guest."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.heavy  # a process of hv for each test

DEADLINE_S = 30.0
# `hv console`, once the node has given the address of the console.
ATTACH = """
import sys, os
if os.isatty(0):
    import fcntl, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
import hvcore
from hvcore.cli.access.console import attach
from hvcore.cli.exit_status import exit_code_of
socket, lock, *argv = sys.argv[1:]
where = hvcore.Console(name="web1", socket=socket or None, lock=lock or None, argv=tuple(argv))
sys.exit(exit_code_of(lambda: attach(where) or 0, as_json=False))
"""


def attached(path: str = "", lock: str = "", *argv: str) -> list[str]:
    return [sys.executable, "-c", ATTACH, path, lock, *argv]


class Person:
    """A user at a terminal in which a command runs."""

    def __init__(self, command: list[str]) -> None:
        self.screen = bytearray()  # bytes would be copied at each read
        self.master, self.slave = os.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            command, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True
        )

    def types(self, data: bytes) -> None:
        os.write(self.master, data)

    def reads(self, timeout_s: float = DEADLINE_S) -> bytes:
        """The next bytes on the screen; empty after the timeout."""
        ready, _, _ = select.select([self.master], [], [], timeout_s)
        data = os.read(self.master, 65536) if ready else b""
        self.screen += data
        return data

    def sees(self, text: bytes) -> None:
        while text not in self.screen:
            assert self.reads(), (text, self.screen[-2000:])

    def exit_code_after_end(self) -> int:
        """The exit code, when all output was read. Asserts that the terminal was restored."""
        while self.process.poll() is None:
            self.reads(0.05)
        while self.reads(0.05):
            pass
        assert termios.tcgetattr(self.slave) == self.before
        assert os.get_blocking(self.slave)
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


class Guest:
    """A listening socket, and the function for a connection."""

    def __init__(self, path: Path, behaviour: Callable[[socket.socket], None]) -> None:
        self.path = str(path)
        self._behaviour = behaviour
        self._listener = socket.socket(socket.AF_UNIX)
        with contextlib.chdir(path.parent):
            self._listener.bind(path.name)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._listener:
            connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            self._behaviour(connection)

    def close(self) -> None:
        """Wait for the end of the connection."""
        self._thread.join(DEADLINE_S)


def echo(connection: socket.socket) -> None:
    connection.sendall(b"login: ")
    while data := connection.recv(65536):
        connection.sendall(data.upper())


def until_bye(connection: socket.socket) -> None:
    connection.sendall(b"login: ")
    while (data := connection.recv(65536)) and b"bye" not in data:
        pass


def flood(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"spam and eggs\r\n" * 4096)


MEGABYTES = b"".join(b"%0255d\n" % number for number in range(16_384))


def megabytes(connection: socket.socket) -> None:
    connection.sendall(MEGABYTES)


@pytest.fixture
def sits_at() -> Iterator[Callable[[list[str]], Person]]:
    people: list[Person] = []

    def sit(command: list[str]) -> Person:
        people.append(Person(command))
        return people[-1]

    yield sit
    for person in people:
        person.close()


Sits = Callable[[list[str]], Person]


def test_bytes_go_both_ways_until_escape(tmp_path: Path, sits_at: Sits) -> None:
    guest = Guest(tmp_path / "c", echo)
    person = sits_at(attached(guest.path))
    person.sees(b"login: ")
    assert b"connected to web1; leave with ^]\r\n" in person.screen
    person.types(b"root\r\x03\x1a\x04")  # ^C, ^Z and ^D are the guest's
    person.sees(b"ROOT\r\x03\x1a\x04")
    assert b"root" not in person.screen, "the terminal does not echo"
    person.types(b"\x1d")
    assert person.exit_code_after_end() == 0
    assert b"\r\ndisconnected from web1 (still running)\r\n" in person.screen
    guest.close()


def test_keys_before_escape_are_still_sent(tmp_path: Path, sits_at: Sits) -> None:
    received: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        connection.sendall(b"ready")
        while data := connection.recv(100):
            received.append(data)

    guest = Guest(tmp_path / "c", listen)
    person = sits_at(attached(guest.path))
    person.sees(b"ready")
    person.types(b"halt\r\x1dnot this")
    assert person.exit_code_after_end() == 0
    guest.close()
    assert b"".join(received) == b"halt\r"


def test_the_console_ends_when_the_guest_closes_it(tmp_path: Path, sits_at: Sits) -> None:
    guest = Guest(tmp_path / "c", until_bye)
    person = sits_at(attached(guest.path))
    person.sees(b"login: ")
    person.types(b"bye")
    assert person.exit_code_after_end() == 0
    assert b"web1: the guest closed the console" in person.screen


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_restores_the_terminal(tmp_path: Path, sits_at: Sits, signum: signal.Signals, code: int) -> None:
    guest = Guest(tmp_path / "c", echo)
    person = sits_at(attached(guest.path))
    person.sees(b"login: ")
    person.process.send_signal(signum)
    assert person.exit_code_after_end() == code
    assert b"Traceback" not in person.screen


def test_a_stop_and_a_continue_make_the_terminal_raw_again(tmp_path: Path, sits_at: Sits) -> None:
    guest = Guest(tmp_path / "c", echo)
    person = sits_at(attached(guest.path))
    person.sees(b"login: ")
    raw = termios.tcgetattr(person.slave)
    person.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, person.process.pid, os.WSTOPPED)
    termios.tcsetattr(person.slave, termios.TCSANOW, person.before)
    person.process.send_signal(signal.SIGCONT)
    while termios.tcgetattr(person.slave) != raw:
        assert person.process.poll() is None
        person.reads(0.01)
    person.types(b"\x1d")
    assert person.exit_code_after_end() == 0


def test_megabytes_arrive_whole(tmp_path: Path, sits_at: Sits) -> None:
    guest = Guest(tmp_path / "c", megabytes)
    person = sits_at(attached(guest.path))
    assert person.exit_code_after_end() == 0
    begin = person.screen.index(MEGABYTES[:256])
    assert person.screen[begin : begin + len(MEGABYTES)] == MEGABYTES
    assert person.screen.endswith(b"web1: the guest closed the console\r\n")


def test_escape_works_while_the_guest_floods_a_screen_that_is_not_read(tmp_path: Path, sits_at: Sits) -> None:
    guest = Guest(tmp_path / "c", flood)
    person = sits_at(attached(guest.path))
    person.sees(b"spam")
    raw = termios.tcgetattr(person.slave)
    # The screen is not read now, so every buffer up to the guest fills.
    person.types(b"help me\x1d")
    while termios.tcgetattr(person.slave) == raw:
        assert person.process.poll() is None
        os.sched_yield()
    assert person.exit_code_after_end() == 0
    guest.close()


def test_escape_works_after_a_paste_that_the_guest_does_not_read(tmp_path: Path, sits_at: Sits) -> None:
    over = threading.Event()

    def deaf(connection: socket.socket) -> None:
        connection.sendall(b"ready")
        over.wait(DEADLINE_S)

    guest = Guest(tmp_path / "c", deaf)
    person = sits_at(attached(guest.path))
    person.sees(b"ready")
    for _ in range(2000):
        person.types(b"x" * 1024)
    person.types(b"\x1d")
    assert person.exit_code_after_end() == 0
    over.set()
    guest.close()
    assert b"typed bytes are lost, because the guest did not read them" in person.screen


def test_a_second_console_names_the_process_that_has_it_open(tmp_path: Path, sits_at: Sits) -> None:
    guest = Guest(tmp_path / "c", echo)
    first = sits_at(attached(guest.path, str(tmp_path / "lock")))
    first.sees(b"login: ")
    second = subprocess.run(
        attached(guest.path, str(tmp_path / "lock")), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert second.returncode == 5
    assert f"hv: web1: the console is open in another terminal (pid {first.process.pid});".encode() in second.stderr
    first.types(b"\x1d")
    assert first.exit_code_after_end() == 0


@pytest.mark.parametrize("content", [b"", b"9" * 30, b"rm -rf\x1b"])
def test_wrong_contents_of_the_lock_file_do_no_harm(tmp_path: Path, content: bytes) -> None:
    lock = tmp_path / "lock"
    lock.write_bytes(content)
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        found = subprocess.run(attached("x", str(lock)), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert found.returncode == 5
    assert b"\x1b" not in found.stderr


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/etc/passwd", path)])
def test_a_lock_that_is_not_a_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "lock")
    command = attached("x", str(tmp_path / "lock"))
    found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=DEADLINE_S)
    assert found.returncode == 1
    assert b"internal error" not in found.stderr


def test_a_socket_path_may_be_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 150)
    folder.mkdir()
    guest = Guest(folder / "console", megabytes)
    found = subprocess.run(attached(guest.path), stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (found.returncode, found.stdout) == (0, MEGABYTES)
    assert found.stderr == b"connected to web1; leave with ^C\nweb1: the guest closed the console\n"


def test_a_console_that_cannot_be_reached_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as nobody_listens:
        nobody_listens.bind(str(tmp_path / "dead"))
    for path, what in ((tmp_path / "absent", b"no such file"), (tmp_path / "dead", b"connection refused")):
        found = subprocess.run(attached(str(path)), stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert found.returncode == 1
        assert b"hv: web1: cannot connect to the console, got " + what in found.stderr


def test_a_pipe_is_sent_unchanged_and_the_answer_is_printed_after_its_end(tmp_path: Path) -> None:
    sent = b"\x1d\x03binary\x00" * 300_000
    received = bytearray()

    def slow(connection: socket.socket) -> None:
        while len(received) < len(sent):
            received.extend(connection.recv(50_000))
        connection.sendall(b"thank you")

    guest = Guest(tmp_path / "c", slow)
    found = subprocess.run(attached(guest.path), input=sent, capture_output=True, check=False, timeout=DEADLINE_S)
    assert (found.returncode, found.stdout) == (0, b"thank you")
    assert bytes(received) == sent


@pytest.mark.parametrize("stream", ["file", "closed"])
def test_stdin_and_stdout_can_be_of_any_kind(tmp_path: Path, stream: str) -> None:
    guest = Guest(tmp_path / "c", megabytes)
    redirect = f"< /etc/passwd > {tmp_path}/out" if stream == "file" else "<&- >&-"
    command = ["sh", "-c", f'exec "$@" {redirect}', "sh", *attached(guest.path)]
    found = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE_S)
    assert found.returncode == 0
    assert found.stderr.endswith(b"web1: the guest closed the console\n")
    if stream == "file":
        assert (tmp_path / "out").read_bytes() == MEGABYTES


@pytest.mark.parametrize("redirect", ["</dev/null", "<&-"])
def test_without_input_the_console_ends_at_once(tmp_path: Path, redirect: str) -> None:
    guest = Guest(tmp_path / "c", until_bye)
    code = ATTACH.replace("attach(where)", "attach(where, follow=False)")
    command = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-c", code, guest.path, ""]
    found = subprocess.run(command, capture_output=True, check=False, timeout=DEADLINE_S)
    assert found.returncode == 0
    assert found.stderr.endswith(b"(still running), because standard input is empty\n")
    guest.close()


def test_a_closed_pipe_ends_the_console_without_a_message(tmp_path: Path) -> None:
    guest = Guest(tmp_path / "c", flood)
    with subprocess.Popen(
        attached(guest.path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1000)
        process.stdout.close()
        assert process.stderr.read() == b"connected to web1; leave with ^C\n"
    assert process.returncode == 141


def test_a_full_disk_under_stdout_is_reported_as_standard_output(tmp_path: Path) -> None:
    guest = Guest(tmp_path / "c", megabytes)
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            attached(guest.path),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=300,
        )
    assert found.stderr.endswith(b"hv: standard output: no space left on device\n")
    assert found.returncode == 1


def set_size(person: Person, lines: int, columns: int) -> None:
    fcntl.ioctl(person.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def test_a_command_runs_on_a_terminal_of_the_same_size(sits_at: Sits) -> None:
    person = sits_at(attached("", "", "sh", "-c", "PS1=; echo ready; exec sh -i"))
    person.sees(b"ready")
    set_size(person, 33, 111)
    person.types(b"stty size; tty\n")
    # The new size reaches the command by two signals, so repeat until it has arrived.
    while b"33 111" not in person.screen:
        person.types(b"stty size\n")
        assert person.reads()
    person.types(b"exit 3\n")
    assert person.exit_code_after_end() == 0
    assert b"web1: the guest closed the console" in person.screen


def test_a_command_that_ignores_its_hangup_is_ended(sits_at: Sits) -> None:
    person = sits_at(attached("", "", "sh", "-c", 'trap "" HUP TERM; echo pid $$ up; exec sleep 60'))
    person.sees(b" up")
    pid = int(person.screen.split(b"pid ")[1].split()[0])
    person.types(b"\x1d")
    assert person.exit_code_after_end() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_command_that_cannot_be_run_is_an_error(tmp_path: Path) -> None:
    for program in ("/nonexistent/sh", str(tmp_path)):
        found = subprocess.run(attached("", "", program), stdin=subprocess.DEVNULL, capture_output=True, check=False)
        assert found.returncode == 1
        assert f"hv: web1: console command '{program}' cannot be run, got ".encode() in found.stderr


def test_start_with_console_shows_all_output_and_lets_the_guest_run(
    hv_process: Callable[..., subprocess.CompletedProcess[bytes]], instance_file: Callable[..., str]
) -> None:
    found = hv_process("start", "--console", instance_file(params='motd = "first words"'))
    assert (found.returncode, found.stdout) == (0, b"first words\r\n")
    assert [line.split(b" (")[0] for line in found.stderr.splitlines()] == [
        b"web1: ready",
        b"connected to web1; leave with ^C",
        b"web1: the guest closed the console",
    ]
    assert b"running" in hv_process("list").stdout
    reader, writer = os.pipe()  # open and empty: with nothing more to send, hv console would end at once
    with open(reader), open(writer, "w"):
        assert hv_process("console", "web1", stdin=reader).stdout == b"first words\r\n"


@pytest.mark.parametrize(("code", "ends"), [(125, 1), (0, 0), (5, 0), (127, 0)])
def test_a_command_that_could_not_enter_the_instance_fails_and_one_that_ended_does_not(code: int, ends: int) -> None:
    command = attached("", "", "sh", "-c", f"echo said; exit {code}")
    ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=DEADLINE_S)
    assert ran.returncode == ends
    assert b"said" in ran.stdout
    assert (b"the console command could not enter the instance" in ran.stderr) == (ends == 1)
