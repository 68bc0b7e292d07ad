"""Copy bytes between a terminal and a guest, in both directions. Neither side can block the other."""

from __future__ import annotations

import errno
import os
import select
from contextlib import suppress
from enum import Enum
from typing import Final

from hvcore.cli.output import printing

__all__ = ["End", "Relay"]

_CHUNK: Final = 65_536
# Bytes that one side has sent and the other has not read yet. At the limit the sender is not read.
_SCREEN_LIMIT: Final = 65_536
_GUEST_LIMIT: Final = 65_536
# The keyboard is always read, or ^] after a long paste would be missed. Above this limit, typed bytes are dropped.
_TYPED_LIMIT: Final = 1_048_576
_GONE: Final = (errno.EIO, errno.ECONNRESET, errno.EPIPE)


class End(Enum):
    """Why `Relay.run` returned."""

    ESCAPED = "the escape key was pressed"
    CLOSED = "the guest closed its console, and all its output was printed"
    HANGUP = "the terminal was closed"
    NOTHING_TO_SEND = "the input was empty"
    SIGNAL = "a signal came; call run() again to continue"


class Relay:
    """Copies bytes between descriptors. ``guest``, ``screen`` and ``wake`` must not block, ``keyboard`` may.

    Without ``keyboard`` nothing is sent, without ``screen`` nothing is shown. ``escape`` is the key that ends `run`.
    Without it, ``keyboard`` is data: sent unchanged, and read only as fast as the guest reads. With ``follow`` False,
    `run` ends when ``keyboard`` is at its end and nothing was sent.
    """

    def __init__(
        self,
        *,
        keyboard: int | None,
        screen: int | None,
        guest: int,
        wake: int | None,
        escape: bytes | None,
        follow: bool = True,
    ) -> None:
        self.dropped = 0
        self._keyboard = keyboard
        self._screen = screen
        self._guest: int | None = guest
        self._wake = wake
        self._escape = escape
        self._ends_with_keyboard = not follow
        self._to_guest = bytearray()
        self._to_screen = bytearray()

    def run(self) -> End:
        """Copy until there is a reason to stop. Raises OSError when writing to the screen fails."""
        if self._keyboard is None and self._ends_with_keyboard:
            return End.NOTHING_TO_SEND
        while self._guest is not None or self._to_screen:
            for fd, events in self._poll():
                end = self._serve(fd, events)
                if end is not None:
                    return end
        return End.CLOSED

    def signals(self) -> list[int]:
        """The signals that came since the last call, in order."""
        with suppress(BlockingIOError):
            return list(os.read(self._wake, 4096)) if self._wake is not None else []
        return []

    def _poll(self) -> list[tuple[int, int]]:
        poll = select.poll()
        for fd, events in self._interest().items():
            poll.register(fd, events)
        return poll.poll()

    def _interest(self) -> dict[int, int]:
        interest: dict[int, int] = {}
        if self._wake is not None:
            interest[self._wake] = select.POLLIN
        if self._keyboard is not None and (self._escape or len(self._to_guest) < _GUEST_LIMIT):
            interest[self._keyboard] = select.POLLIN
        if self._screen is not None and self._to_screen:
            interest[self._screen] = select.POLLOUT
        if self._guest is not None:
            events = select.POLLIN if len(self._to_screen) < _SCREEN_LIMIT else 0
            events |= select.POLLOUT if self._to_guest else 0
            if events:  # after a hang-up poll() returns at once, even for no events
                interest[self._guest] = events
        return interest

    def _serve(self, fd: int, events: int) -> End | None:
        if fd == self._wake:
            return End.SIGNAL
        if fd == self._keyboard:
            return self._read_keyboard(fd)
        if fd == self._screen:
            self._write_screen(fd)
        elif fd == self._guest:
            if events & select.POLLOUT:
                self._write_guest(fd)
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._read_guest(fd)
        return None

    def _read_keyboard(self, fd: int) -> End | None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _GONE:
                raise
            data = b""
        if not data:
            self._keyboard = None
            if self._ends_with_keyboard and not self._escape:
                self._show_rest()
                return End.NOTHING_TO_SEND
            return End.HANGUP if self._escape else None
        self._ends_with_keyboard = False
        before, escape, _ = data.partition(self._escape) if self._escape else (data, b"", b"")
        room = _TYPED_LIMIT - len(self._to_guest) if self._escape else len(before)
        self.dropped += max(0, len(before) - room)
        self._to_guest += before[:room]
        if not escape:
            return None
        if self._guest is not None and self._to_guest:
            self._write_guest(self._guest)
        return End.ESCAPED

    def _show_rest(self) -> None:
        """Show what the guest has sent already, as far as the screen takes it at once."""
        if self._guest is not None:
            self._read_guest(self._guest)
        if self._screen is not None and self._to_screen:
            self._write_screen(self._screen)

    def _read_guest(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _GONE:
                raise
            data = b""
        if not data:
            self._guest = None
        elif self._screen is not None:
            self._to_screen += data

    def _write_guest(self, fd: int) -> None:
        try:
            sent = os.write(fd, memoryview(self._to_guest)[:_CHUNK])
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _GONE:
                raise
            sent = len(self._to_guest)  # the guest reads no more; its output is still read
        del self._to_guest[:sent]

    def _write_screen(self, fd: int) -> None:
        with suppress(BlockingIOError), printing():
            del self._to_screen[: os.write(fd, memoryview(self._to_screen)[:_CHUNK])]
