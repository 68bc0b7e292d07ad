"""``hv console``: sit at an instance's console until the guest closes it or ``^]`` is pressed.

The guest's side is a unix socket or a command on a pseudo-terminal (`hvcore.cli.guest_end`), this side is whatever
stdin and stdout are (`hvcore.cli.terminal`); `hvcore.cli.relay` carries bytes between the two.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import hvcore
from hvcore.cli.exit_status import Signalled
from hvcore.cli.guest_end import GuestSide, opened
from hvcore.cli.options import command, name_argument
from hvcore.cli.output import remark
from hvcore.cli.relay import End, Relay
from hvcore.cli.session import known, open_node
from hvcore.cli.terminal import Terminal, signal_pipe, unblocked

__all__ = ["attach", "console"]

_ESCAPE: Final = b"\x1d"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, signal.SIGCONT)
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@command("hv console web1", "echo reboot | hv console web1        # goes on printing until the guest closes, or ^C")
@name_argument
def console(name: str) -> None:
    """Open the console of an instance; leave it with ^].

    One person at a time. When stdin is no terminal it is sent to the guest as it is, ^] included; at its end nothing
    more is sent, and what the guest says is printed until it closes its console or ^C.
    """
    node = open_node()
    with known(node, name):
        where = node.console(name)
    attach(where)


def attach(where: hvcore.Console, *, attached: Callable[[], object] = lambda: None) -> None:
    """Carry bytes between this process's stdin and stdout and the guest, until one of them has enough.

    ``attached`` is called once the guest's side is open, before its first byte is read. Raises `BusyError` naming
    who is there already, `OperationError` when the guest's side cannot be opened, and OSError when stdout fails.
    """
    name = where.name
    keyboard = _descriptor(sys.stdin)
    is_terminal = keyboard is not None and os.isatty(keyboard)
    with ExitStack() as stack:
        stack.enter_context(_alone(where))
        guest = stack.enter_context(opened(where))
        screen = stack.enter_context(unblocked(_descriptor(sys.stdout)))
        terminal = Terminal(keyboard if is_terminal else None)
        remark(f"connected to {name}, {'escape with ^]' if is_terminal else 'end with ^C'}")
        wake = stack.enter_context(signal_pipe(_SIGNALS))
        stack.enter_context(terminal)
        guest.resize(terminal.size())
        attached()
        relay = Relay(
            keyboard=keyboard, screen=screen, guest=guest.fd, wake=wake, escape=_ESCAPE if is_terminal else None
        )
        end = _relayed(relay, terminal, guest)
    newline = "\n" if is_terminal else ""
    if relay.dropped:
        remark(f"{newline}{name}: {relay.dropped} bytes that were typed are lost, the guest did not read them")
    if end is End.CLOSED:
        remark(f"{newline}{name}: console closed")
    else:
        remark(f"{newline}{name}: disconnected, it goes on without you")


def _relayed(relay: Relay, terminal: Terminal, guest: GuestSide) -> End:
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
    """The file descriptor below a standard stream, None when it is closed."""
    fileno = getattr(stream, "fileno", None)
    try:
        return int(fileno()) if fileno is not None else None
    except (OSError, ValueError):  # a stand-in without a descriptor
        return None


@contextmanager
def _alone(where: hvcore.Console) -> Iterator[None]:
    """Hold the console's lock. A guest's console has one user: two would each see half of what it says."""
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
            raise hvcore.OperationError(f"{where.name}: its console lock is no regular file; see {where.lock!r}")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise hvcore.BusyError(_busy(where.name, os.pread(fd, 20, 0))) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _busy(name: str, holder: bytes) -> str:
    pid = holder.strip()
    by = f"pid {int(pid)}" if pid.isdigit() else "another process"
    return f"{name}: its console is in use by {by}; a console has one user, leave it there with ^]"
