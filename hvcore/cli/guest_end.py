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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import hvcore

__all__ = ["GuestSide", "connect", "opened"]

_MAX_SOCKET_PATH: Final = 107  # sizeof(sun_path) - 1, unix(7)
_CONNECT_S: Final = 5.0
_HANGUP_S: Final = 1.0
_COULD_NOT: Final = 125  # as with env(1), chroot(1) and hv exec: not the program's code, it never ran


@dataclass(frozen=True, slots=True)
class GuestSide:
    """An open console: a descriptor that does not block, for both directions."""

    fd: int
    is_terminal: bool

    def resize(self, size: os.terminal_size) -> None:
        """Tell the command how large the person's window is; a serial line has no way to know."""
        if self.is_terminal:
            with suppress(OSError):  # it has just ended
                _set_size(self.fd, size)


def _set_size(fd: int, size: os.terminal_size) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size.lines, size.columns, 0, 0))


@contextmanager
def opened(where: hvcore.Console) -> Iterator[GuestSide]:
    """The console, open inside the block. Raises `OperationError` when it cannot be reached."""
    if where.socket is not None:
        with _reached(where.name), connect(where.socket) as connection:
            connection.setblocking(False)
            yield GuestSide(connection.fileno(), is_terminal=False)
    elif where.argv:
        with _command(where.name, where.argv) as fd:
            yield GuestSide(fd, is_terminal=True)
    else:
        raise hvcore.OperationError(f"{where.name}: its driver names neither a socket nor a command; report it")


@contextmanager
def _reached(name: str) -> Iterator[None]:
    try:
        yield
    except _UnreachableError as error:
        text = f"{name}: its console cannot be reached, got {error}; see hv info {name}"
        raise hvcore.OperationError(text) from error


class _UnreachableError(Exception):
    """Connecting failed; the text says why."""


def connect(path: str) -> socket.socket:
    """A connection to the unix socket at ``path``, which may be longer than a socket address."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_S)
    directory = -1
    try:
        if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
            folder, name = os.path.split(path)
            directory = os.open(folder or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{directory}/{name}"
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise _UnreachableError((error.strerror or str(error)).lower()) from error
    finally:
        if directory >= 0:
            os.close(directory)
    return connection


@contextmanager
def _command(name: str, argv: Sequence[str]) -> Iterator[int]:
    """The master of a new terminal on which the command runs; hung up and waited for at the end of the block.

    Raises `OperationError` when it ended because it could not get in; what it had to say of that is on the screen.
    """
    master, slave = os.openpty()
    told, tell = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(argv, slave, tell)
    os.close(slave)
    os.close(tell)
    pidfd = os.pidfd_open(pid)
    try:
        with os.fdopen(told, "rb") as answer:
            failed = answer.read()
        if failed:
            what = os.strerror(int(failed))
            raise hvcore.OperationError(f"{name}: console command {argv[0]!r} cannot be run, got {what}; install it")
        os.set_blocking(master, False)
        yield master
    finally:
        os.close(master)  # SIGHUP to the command
        code = _end(pid, pidfd)
    if code == _COULD_NOT:
        raise hvcore.OperationError(f"{name}: its console could not be entered; see hv info {name}")


def _become(argv: Sequence[str], slave: int, tell: int) -> NoReturn:
    """In the child: take the terminal and become the command, or tell the parent the errno."""
    try:
        os.login_tty(slave)
        for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and a command would go on doing so
            signal.signal(signum, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is the point
    except OSError as error:
        os.write(tell, str(error.errno).encode())
    finally:
        os._exit(127)


def _end(pid: int, pidfd: int) -> int:
    """Wait for the command, which lost its terminal; what ignores that is ended the hard way. Its exit code."""
    try:
        for signum in (signal.SIGTERM, signal.SIGKILL):
            if _gone(pidfd, _HANGUP_S):
                break
            signal.pidfd_send_signal(pidfd, signum)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(pidfd)


def _gone(pidfd: int, wait_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(wait_s * 1000))
