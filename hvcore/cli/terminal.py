"""The user's side of a console: a raw terminal, an output that does not block, and signals as bytes."""

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
def unblocked(fd: int | None) -> Iterator[int | None]:
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
def signal_pipe(signals: Sequence[signal.Signals]) -> Iterator[int]:
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
