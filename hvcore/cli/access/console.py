"""``hv console``: connect to an instance's console until the guest closes it or the user presses ``^]``.

`guest_end` opens the guest's side, this module prepares stdin and stdout, and `relay` copies bytes between the two.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any, Final, Self

import click

import hvcore
from hvcore.cli.access.exec_and_log import show_log
from hvcore.cli.access.guest_end import GuestSide, opened
from hvcore.cli.access.relay import End, Relay
from hvcore.cli.exit_status import Signalled
from hvcore.cli.options import command, name_argument
from hvcore.cli.output import remark, results
from hvcore.cli.session import known, open_node

__all__ = ["attach", "console"]

_ESCAPE: Final = b"\x1d"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGCONT)
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@command(
    "hv console web1",
    "echo reboot | hv console web1        # prints until the guest closes the console, or ^C",
    "hv console web1 --log --lines 50     # what the guest wrote before, also after a crash",
)
@name_argument
@click.option("--log", "history", is_flag=True, help="Print what the guest wrote to its console before, and end.")
@click.option(
    "-f", "--follow", is_flag=True, help="With --log: keep printing until the instance stops or you press ^C."
)
@click.option("-n", "--lines", metavar="N", type=click.IntRange(min=0), help="With --log: print only the last N lines.")
def console(name: str, *, history: bool, follow: bool, lines: int | None) -> None:
    """Open the console of an instance; leave it with ^].

    Only one console can be open at a time. If standard input is not a terminal, it is sent to the guest unchanged
    (^] too). Output is then printed until the guest closes the console or you press ^C. If standard input is empty, as
    /dev/null is, the console ends at once.

    With --log, the last MiB of a kvm guest's serial console is printed instead. It is kept until 'hv stop' or
    'hv cleanup', so you can read it after the guest has crashed. It can contain passwords. QEMU's own messages are in
    'hv log'.
    """
    if not history and (follow or lines is not None):
        option = "--follow" if follow else "--lines"
        raise click.UsageError(f"{option} needs --log; add it", click.get_current_context())
    node = open_node()
    if history:
        with known(node, name):
            found = node.console_log(name)
        show_log(found, follow=follow, lines=lines, colours=False)
        return
    with known(node, name):
        where = node.console(name)
    attach(where, follow=False)


def attach(where: hvcore.Console, *, attached: Callable[[], object] = lambda: None, follow: bool = True) -> None:
    """Connect stdin and stdout to the console, until the guest closes it or the user leaves.

    With ``follow`` False it also ends when stdin is empty. ``attached`` is called when the guest's side is open, before
    its first byte is read. Raises `BusyError` naming the process that has the console open, `OperationError` when it
    cannot be opened, and OSError when stdout fails.
    """
    name = where.name
    keyboard = _descriptor(sys.stdin)
    is_terminal = keyboard is not None and os.isatty(keyboard)
    with ExitStack() as stack:
        stack.enter_context(_console_lock(where))
        guest = stack.enter_context(opened(where))
        screen = stack.enter_context(_unblocked(_descriptor(results())))
        terminal = _Terminal(keyboard if is_terminal else None)
        remark(f"connected to {name}; leave with {'^]' if is_terminal else '^C'}")
        wake = stack.enter_context(_signal_pipe(_SIGNALS))
        stack.enter_context(terminal)
        guest.resize(terminal.size())
        attached()
        relay = Relay(
            keyboard=keyboard,
            screen=screen,
            guest=guest.fd,
            wake=wake,
            escape=_ESCAPE if is_terminal else None,
            follow=follow,
        )
        end = _relayed(relay, terminal, guest)
    newline = "\n" if is_terminal else ""
    if relay.dropped:
        remark(f"{newline}{name}: {relay.dropped} typed bytes are lost, because the guest did not read them")
    if end is End.CLOSED:
        remark(f"{newline}{name}: the guest closed the console")
    elif end is End.NOTHING_TO_SEND:
        remark(f"disconnected from {name} (still running), because standard input is empty")
    else:
        remark(f"{newline}disconnected from {name} (still running)")


def _relayed(relay: Relay, terminal: _Terminal, guest: GuestSide) -> End:
    while True:
        end = relay.run()
        if end is not End.SIGNAL:
            return end
        for signum in relay.signals():
            if signum in _ENDING:
                raise Signalled(signum)
            if signum == signal.SIGCONT:
                terminal.make_raw()
            guest.resize(terminal.size())


def _descriptor(stream: object) -> int | None:
    """The file descriptor of a standard stream, or None if the stream is closed."""
    fileno = getattr(stream, "fileno", None)
    try:
        return int(fileno()) if fileno is not None else None
    except (OSError, ValueError):  # an object in place of the stream, without a descriptor
        return None


@contextmanager
def _console_lock(where: hvcore.Console) -> Iterator[None]:
    """Hold the console's lock. Two users at a console would each see half of its output."""
    if where.lock is None:
        yield
        return
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(where.lock, flags, 0o600)
    except FileNotFoundError:
        raise hvcore.NotFoundError(where.name) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise hvcore.OperationError(f"{where.name}: console lock {where.lock!r} is not a regular file; remove it")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 20, 0).strip()
            by = f" (pid {int(pid)})" if pid.isdigit() else ""
            what = f"{where.name}: the console is open in another terminal{by}; close it there with ^]"
            raise hvcore.BusyError(what) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


class _Terminal:
    """The terminal at a descriptor, raw inside a ``with`` block and restored after it. None: not a terminal."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        if self._fd is not None:
            try:
                self._before = termios.tcgetattr(self._fd)
            except termios.error as error:
                raise OSError(*error.args) from error
            self.make_raw()
        return self

    def make_raw(self) -> None:
        """Send every key to the guest, ``^C`` and ``^Z`` too. Needed again after SIGCONT: shells reset the terminal."""
        if self._fd is not None and self._before is not None:
            with suppress(termios.error):
                tty.setraw(self._fd, termios.TCSANOW)

    def size(self) -> os.terminal_size:
        """Columns and lines; 80 and 24 without a terminal."""
        if self._fd is not None:
            with suppress(OSError):
                size = os.get_terminal_size(self._fd)
                if size.columns and size.lines:
                    return size
        return os.terminal_size((80, 24))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd is None or self._before is None:
            return
        # SIGTTOU would stop this process if it is in the background by now.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        try:
            with suppress(termios.error):  # the terminal may be closed
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _unblocked(fd: int | None) -> Iterator[int | None]:
    """A descriptor for the same output that does not block. If possible, the shared one is not changed."""
    if fd is None or stat.S_ISREG(os.fstat(fd).st_mode):
        yield fd
        return
    try:
        # A new open file: O_NONBLOCK on the shared one would affect the shell, and stay after SIGKILL.
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # a socket, or a terminal of another user (su)
        before = os.get_blocking(fd)
        os.set_blocking(fd, False)
        try:
            yield fd
        finally:
            os.set_blocking(fd, before)
        return
    try:
        yield own
    finally:
        os.close(own)


def _nothing(*_args: object) -> None:
    """With a handler, the signal is written to the wake-up descriptor and does not end this process."""


@contextmanager
def _signal_pipe(signals: Sequence[signal.Signals]) -> Iterator[int]:
    """A descriptor for the block. Reading gives the number of each signal that came, a byte each."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {signum: signal.getsignal(signum) for signum in signals}
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        for signum, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(signum, _nothing)
        yield reader
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)
