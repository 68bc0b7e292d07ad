"""The guest's side of a console: a connected unix socket, or a command on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import termios
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import hvcore

__all__ = ["GuestSide", "opened"]

_MAX_SOCKET_PATH: Final = 107  # sizeof(sun_path) - 1, unix(7)
_CONNECT_S: Final = 5.0
_HANGUP_S: Final = 1.0
_NOT_RUN: Final = 125  # as env(1), chroot(1) and hv exec: the program never ran


@dataclass(frozen=True, slots=True)
class GuestSide:
    """An open console: a descriptor that does not block, for both directions."""

    fd: int
    is_terminal: bool

    def resize(self, size: os.terminal_size) -> None:
        """Set the size of the command's terminal to that of the user's. A serial line has no size."""
        if self.is_terminal:
            with suppress(OSError):  # the command has just ended
                fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))


@contextmanager
def opened(where: hvcore.Console) -> Iterator[GuestSide]:
    """The console, open inside the block. Raises `OperationError` when it cannot be reached."""
    if where.socket is not None:
        try:
            connection = _connect(where.socket)
        except OSError as error:
            what = (error.strerror or str(error)).lower()
            text = f"{where.name}: cannot connect to the console, got {what}; see 'hv info {where.name}'"
            raise hvcore.OperationError(text) from error
        with connection:
            yield GuestSide(connection.fileno(), is_terminal=False)
    elif where.argv:
        with _command(where.name, where.argv) as fd:
            yield GuestSide(fd, is_terminal=True)
    else:
        raise hvcore.OperationError(
            f"{where.name}: the driver names neither a socket nor a command for the console; report this to its authors"
        )


def _connect(path: str) -> socket.socket:
    """A connection to the unix socket at ``path``, which may be longer than a socket address. It does not block."""
    with ExitStack() as stack:
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            folder, name = os.path.split(path)
            directory = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, directory)
            path = f"/proc/self/fd/{directory}/{name}"
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(_CONNECT_S)
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        connection.setblocking(False)
        return connection


@contextmanager
def _command(name: str, argv: Sequence[str]) -> Iterator[int]:
    """The master of a new terminal on which the command runs. At the end of the block the command is hung up.

    Raises `OperationError` when the command could not enter the instance. Its own message is on the screen.
    """
    master, slave = os.openpty()
    errno_reader, errno_writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(argv, slave, errno_writer)
    os.close(slave)
    os.close(errno_writer)
    pidfd = os.pidfd_open(pid)
    try:
        with os.fdopen(errno_reader, "rb") as pipe:
            failed = pipe.read()
        if failed:
            what = os.strerror(int(failed))
            raise hvcore.OperationError(f"{name}: console command {argv[0]!r} cannot be run, got {what}; install it")
        os.set_blocking(master, False)
        yield master
    finally:
        os.close(master)  # SIGHUP to the command
        code = _end(pid, pidfd)
    if code == _NOT_RUN:
        raise hvcore.OperationError(f"{name}: the console command could not enter the instance; see 'hv info {name}'")


def _become(argv: Sequence[str], slave: int, errno_writer: int) -> NoReturn:
    """In the child: take the terminal and execute the command, or write the errno for the parent."""
    try:
        os.login_tty(slave)
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and the command would inherit that
            signal.signal(signum, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.execvp(argv[0], list(argv))  # noqa: S606 - without a shell on purpose
    except OSError as error:
        os.write(errno_writer, str(error.errno).encode())
    finally:
        os._exit(127)


def _end(pid: int, pidfd: int) -> int:
    """The exit code of the command, which lost its terminal. If it goes on, SIGTERM and then SIGKILL end it."""
    try:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if poll.poll(_HANGUP_S * 1000):
                break
            signal.pidfd_send_signal(pidfd, signum)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)
