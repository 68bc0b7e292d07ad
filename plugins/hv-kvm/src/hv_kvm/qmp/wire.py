"""Lines of JSON over a unix socket, each way with a deadline and a bound.

It does not know commands and events. The other side may be a QEMU that a guest has taken over. So everything that the
other side sends becomes a value or a `QmpError`, never another exception, and never more than `LINE_LIMIT` bytes.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from hv_kvm.qmp.errors import QmpBusyError, QmpClosedError, QmpConnectError, QmpProtocolError, QmpTimeoutError

__all__ = ["LINE_LIMIT", "Wire", "open_wire", "try_wire"]

LINE_LIMIT: Final = 64 << 20
"""Longest line that is read, in bytes. The largest real reply, query-qmp-schema, has about 250 kB (QEMU 11.1)."""

# Not more: from 128 KiB on malloc maps fresh pages for every read.
_RECEIVE_BYTES: Final = 64 << 10
_SUN_PATH_BYTES: Final = 107


class Wire:
    """One open connection. Not for several threads at once. Owns the socket."""

    def __init__(self, sock: socket.socket, subject: str, line_limit: int = LINE_LIMIT) -> None:
        sock.settimeout(0)
        self.subject = subject
        self._sock: socket.socket | None = sock
        self._line_limit = line_limit
        self._buffer = bytearray()
        self._searched = 0
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    @property
    def closed(self) -> bool:
        """True when either side has closed, or an error has made the connection useless."""
        return self._sock is None

    def fileno(self) -> int:
        """The descriptor, for a poll of several connections; -1 when it is closed."""
        return -1 if self._sock is None else self._sock.fileno()

    def close(self) -> None:
        """Close the connection; harmless when closed already. QEMU then serves the next client."""
        sock, self._sock = self._sock, None
        self._buffer.clear()
        self._searched = 0
        if sock is not None:
            sock.close()

    def send(self, message: Mapping[str, Any], *, what: str, deadline: float, fds: Sequence[int] = ()) -> None:
        """Send one line, with ``fds`` attached to its first byte; ``deadline`` is in monotonic seconds.

        Raises QmpClosedError, and QmpTimeoutError when the other side does not read. Then the connection is closed,
        so that half a command can never run together with the next.
        """
        self.send_all([message], what=what, deadline=deadline, fds=fds)

    def send_all(
        self, messages: Sequence[Mapping[str, Any]], *, what: str, deadline: float, fds: Sequence[int] = ()
    ) -> None:
        """Send several lines in one write, like `send`."""
        # No blanks: QEMU reads its monitor byte by byte, at about 3 us each (monitor/monitor.c, monitor_can_read).
        lines = (json.dumps(message, separators=(",", ":")).encode() + b"\n" for message in messages)
        rest = memoryview(b"".join(lines))
        started = time.monotonic()
        while rest:
            sock = self._open_socket(what)
            try:
                sent = socket.send_fds(sock, [rest], fds) if fds else sock.send(rest)
            except BlockingIOError:
                if not self._ready(select.POLLOUT, deadline):
                    self.close()
                    waited_s = time.monotonic() - started
                    raise QmpTimeoutError(subject=self.subject, command=what, waited_s=waited_s) from None
                continue
            except OSError as error:
                self.close()
                raise QmpClosedError(subject=self.subject, during=what) from error
            rest, fds = rest[sent:], ()

    def receive(self, *, what: str, deadline: float) -> dict[str, Any] | None:
        """The next line as a JSON object, or None when the deadline (monotonic seconds) passed first.

        A part of a line stays for the next call. Raises QmpClosedError at the end of the stream, and
        QmpProtocolError, closing the connection, for anything but a JSON object on a line of bounded length.
        """
        while True:
            line = self._take_line()
            if line is not None:
                if line.strip():
                    return self._parse(line)
                continue
            if len(self._buffer) > self._line_limit:
                self._fail(f"received a line of more than {self._line_limit} bytes")
            sock = self._open_socket(what)
            if not self._ready(select.POLLIN, deadline):
                return None
            self._take_in(sock, what)

    def arrived(self, *, what: str) -> list[dict[str, Any]]:
        """The messages that are complete after one read, which does not wait. Raises as `receive` does."""
        self._take_in(self._open_socket(what), what)
        found = []
        while (line := self._take_line()) is not None:
            if line.strip():
                found.append(self._parse(line))
        if len(self._buffer) > self._line_limit:
            self._fail(f"received a line of more than {self._line_limit} bytes")
        return found

    def _take_in(self, sock: socket.socket, what: str) -> None:
        """Add what has arrived to the buffer. Raises QmpClosedError at the end of the stream."""
        try:
            data = sock.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            # ECONNRESET: QEMU exited with bytes of ours unread, as after quit.
            data = b""
        if not data:
            self.close()
            raise QmpClosedError(subject=self.subject, during=what)
        self._buffer += data

    def _open_socket(self, what: str) -> socket.socket:
        if self._sock is None:
            raise QmpClosedError(subject=self.subject, during=what)
        return self._sock

    def _ready(self, wanted: int, deadline: float) -> bool:
        """Wait until the socket can be read or written; POLLHUP counts, because reading then shows the error."""
        sock = self._open_socket("a wait")
        if wanted != select.POLLIN:
            self._poll.modify(sock, wanted)
        # Rounded up: a wait of 0.4 ms as 0 would spin.
        remaining_ms = max(0.0, deadline - time.monotonic()) * 1000
        try:
            return bool(self._poll.poll(int(remaining_ms) + 1 if remaining_ms else 0))
        finally:
            if wanted != select.POLLIN:
                self._poll.modify(sock, select.POLLIN)

    def _take_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        return line

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            self._fail(f"received a line that is not JSON, got {_shown(line)}")
        if not isinstance(message, dict):
            self._fail(f"received a line that is not a JSON object, got {_shown(line)}")
        return message

    def _fail(self, what: str) -> NoReturn:
        self.close()
        raise QmpProtocolError(subject=self.subject, what=what)


def _shown(line: bytes) -> str:
    return repr(line[:60]) + (f" and {len(line) - 60} bytes more" if len(line) > 60 else "")


def try_wire(path: str, *, line_limit: int = LINE_LIMIT) -> Wire:
    """Like `open_wire`, without waiting for a full backlog: `QmpBusyError` at once."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with _short_address(path) as address:
            sock.connect(address)
    except BlockingIOError:
        sock.close()
        raise QmpBusyError(subject=path, waited_s=0.0) from None
    except (OSError, ValueError) as error:
        sock.close()
        raise QmpConnectError(subject=path, reason=_reason(error)) from error
    return Wire(sock, path, line_limit)


def open_wire(path: str, *, deadline: float) -> Wire:
    """Connect to a listening unix socket by a path of any length; ``deadline`` is in monotonic seconds.

    The kernel completes a connection while QEMU is hung or serves another client, up to a backlog; a full backlog is
    waited for in the kernel. Raises QmpConnectError when no program listens, QmpBusyError when the backlog stays full.
    """
    started = time.monotonic()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with _short_address(path) as address:
            _connect(sock, address, deadline)
    except BlockingIOError:
        sock.close()
        raise QmpBusyError(subject=path, waited_s=time.monotonic() - started) from None
    except (OSError, ValueError) as error:
        sock.close()
        raise QmpConnectError(subject=path, reason=_reason(error)) from error
    return Wire(sock, path)


def _reason(error: OSError | ValueError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _connect(sock: socket.socket, address: str, deadline: float) -> None:
    while True:
        remaining_s = max(0.001, deadline - time.monotonic())
        seconds = int(remaining_s)
        timeval = struct.pack("@ll", seconds, int((remaining_s - seconds) * 1e6))
        # A blocking connect with a send time-out sleeps in the kernel until the backlog has room, then EAGAIN
        # (net/unix/af_unix.c, unix_stream_connect); a Python time-out would get EAGAIN at once and have to poll.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        sock.connect(address)
        try:
            sock.getpeername()
        except OSError as error:
            # A signal during that sleep: Python takes the interrupted connect for a finished one.
            if error.errno == errno.ENOTCONN and time.monotonic() < deadline:
                continue
            raise
        return


@contextlib.contextmanager
def _short_address(path: str) -> Iterator[str]:
    """``path`` itself if it fits sun_path, else the same place through an open directory."""
    if len(os.fsencode(path)) <= _SUN_PATH_BYTES:
        yield path
        return
    directory, name = os.path.split(path)
    directory_fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory_fd}/{name}"
    finally:
        os.close(directory_fd)
