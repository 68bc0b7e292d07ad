"""This side of a console: a terminal that is raw for a while, an output that never blocks, signals as bytes."""

from __future__ import annotations

import os
import signal
import stat
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

__all__ = ["Terminal", "signal_pipe", "unblocked"]


class Terminal:
    """The terminal at a descriptor, raw inside a ``with`` block and as it was after it. None: there is no terminal."""

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
        """Every key goes to the guest, ``^C`` and ``^Z`` too. Again after a stop: a shell takes the terminal back."""
        if self._fd is not None and self._before is not None:
            with suppress(termios.error):
                tty.setraw(self._fd, termios.TCSANOW)

    def size(self) -> os.terminal_size:
        """Columns and lines, 80 times 24 where there is no terminal."""
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
        # In the background by now, the kernel would stop us for touching the terminal.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        try:
            with suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def unblocked(fd: int | None) -> Iterator[int | None]:
    """A descriptor for the same output that never blocks. Without touching the one that others share, if possible."""
    if fd is None or stat.S_ISREG(os.fstat(fd).st_mode):
        yield fd
        return
    try:
        # A description of our own: O_NONBLOCK on the given one would be seen by the shell, and outlive a SIGKILL.
        own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # a socket, or a terminal of the user that we were before su
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
    """A handler, so that the signal is written to the wake-up descriptor instead of ending us."""


@contextmanager
def signal_pipe(signals: Sequence[signal.Signals]) -> Iterator[int]:
    """A descriptor from which the numbers of these signals can be read, a byte each, while the block runs."""
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
