"""Carries the stream of a migration between two nodes. The program beside a guest that `stream` launches on each of them.

QEMU is in an empty network: it knows only sockets in the guest's directory. The relay of the source takes QEMU's connections,
and makes one to the relay of the target for each, which connects to the other QEMU. Between the nodes the stream is
encrypted, and each relay trusts one certificate only, that of the other. A program that connects without it never reaches QEMU.

Run as ``python -I -S relay.py SOCKET``. It gets one message there, JSON with descriptors, and answers when it is ready. It
imports nothing of hvcore, because its sandbox shows only this file. It ends when the socket is closed, and where a guest has
landed when its last stream has ended. QEMU makes its connections in an order that counts, so each waits for the one before.
"""

from __future__ import annotations

import hmac
import json
import os
import select
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, Final

__all__ = ["MAIN", "main"]

MAIN: Final = "state"
"""The route of the guest's state. The target's relay ends after the last stream on it."""

_MESSAGE_BYTES: Final = 64 * 1024
_MOST_FDS: Final = 8
_LINE_BYTES: Final = 256
_ANSWER: Final = b"\n"
_PIECE: Final = 64 * 1024
_WAITING: Final = 256 * 1024  # of one direction; more would only delay the end of a migration
_GREET_S: Final = 30.0  # on a busy node
_MOST_STRANGERS: Final = 32
# A cable that is pulled ends the stream after this time, also while nothing is sent.
_DEAD_S: Final = 60
_IDLE_S: Final = 15
# openssl/x509_vfy.h. The peer's certificate is known, so there is no chain, and two clocks need not agree.
_PARTIAL_CHAIN: Final = 0x80000
_NO_CHECK_TIME: Final = 0x200000
_LATER: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)

_Settings = dict[str, Any]


def main(control: socket.socket) -> None:
    """Carry streams until the control socket is closed, or the last stream on `MAIN` has ended."""
    settings, listeners = _message(control)
    os.chdir(settings["directory"])  # the path may be too long for the address of a socket
    tls, streams = _tls(settings), _Streams()
    control.sendall(_ANSWER)
    threading.Thread(target=_end_with, args=(control, streams), daemon=True).start()
    for listener, route in zip(listeners, settings["routes"], strict=False):
        work = _send_all if settings["sends"] else _take_all
        threading.Thread(target=work, args=(listener, route, settings, tls, streams), daemon=True).start()
    streams.wait()


def _message(control: socket.socket) -> tuple[_Settings, list[socket.socket]]:
    """The settings, one line, and the listening sockets that come with its first byte."""
    data, fds, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, _MOST_FDS)
    while not data.endswith(b"\n"):
        more = control.recv(_MESSAGE_BYTES)
        if not more:
            sys.exit(0)
        data += more
    listeners = [socket.socket(fileno=fd) for fd in fds]
    for listener in listeners:
        listener.setblocking(True)  # their maker may have had a timeout, which is a property of the open file
    return json.loads(data), listeners


class _Streams:
    """How many streams there are, and whether the relay is to end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open, self._carried, self.over = 0, False, False

    def wait(self) -> None:
        """Until the relay is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or (self._carried and not self._open))

    def begin(self) -> None:
        """One more."""
        with self._changed:
            self._open += 1

    def end(self, route: str, *, last: bool) -> None:
        """One less. With ``last`` the relay has done its work when no other is left."""
        with self._changed:
            self._open -= 1
            self._carried |= last and route == MAIN
            self._changed.notify_all()

    def stop(self) -> None:
        """The relay is to end now."""
        with self._changed:
            self.over = True
            self._changed.notify_all()


def _end_with(control: socket.socket, streams: _Streams) -> None:
    with suppress(OSError):
        while control.recv(1):
            pass
    streams.stop()


def _tls(settings: _Settings) -> ssl.SSLContext | None:
    if not settings["peer"]:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if settings["sends"] else ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # One direction may end before the other: the end of the connection below is that of the direction.
    context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    context.check_hostname = False  # only one certificate is trusted, whatever name it has
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = ssl.VerifyFlags(context.verify_flags | _PARTIAL_CHAIN | _NO_CHECK_TIME)
    context.load_verify_locations(cadata=settings["peer"])
    with _as_file(settings["certificate"]) as certificate, _as_file(settings["key"]) as key:
        context.load_cert_chain(f"/proc/self/fd/{certificate.fileno()}", f"/proc/self/fd/{key.fileno()}")
    return context


def _as_file(text: str) -> Any:
    file = os.fdopen(os.memfd_create("text", os.MFD_CLOEXEC), "wb", buffering=0)
    file.write(text.encode())
    return file


def _send_all(
    listener: socket.socket, route: str, settings: _Settings, tls: ssl.SSLContext | None, streams: _Streams
) -> None:
    """Take QEMU's connections one after the other: the next is begun when the other QEMU has this one."""
    while True:
        near, _ = listener.accept()
        opened = ExitStack()
        opened.enter_context(closing(near))
        try:
            far = opened.enter_context(closing(_connected(settings)))
            if tls is not None:
                far = opened.enter_context(closing(tls.wrap_socket(far)))
            far.sendall(f"{settings['ticket']} {route}\n".encode())
            if far.recv(1) != _ANSWER:
                raise ConnectionError("the other side does not expect it")
        except OSError as error:
            _say(f"cannot reach {settings['host']} port {settings['port']}: {_words(error)}")
            opened.close()
            continue
        streams.begin()
        threading.Thread(target=_carry, args=(near, far, opened, route, streams), daemon=True).start()


def _connected(settings: _Settings) -> socket.socket:
    found = socket.create_connection((settings["host"], settings["port"]), _GREET_S)
    _keep_alive(found)
    return found


def _keep_alive(far: socket.socket) -> None:
    far.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _IDLE_S)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_S * 1000)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _take_all(
    listener: socket.socket, _route: str, settings: _Settings, tls: ssl.SSLContext | None, streams: _Streams
) -> None:
    """Take connections from the network, a few strangers at a time."""
    strangers = threading.BoundedSemaphore(_MOST_STRANGERS)
    while True:
        far, _ = listener.accept()
        strangers.acquire()
        threading.Thread(target=_greet, args=(far, tls, settings, streams, strangers), daemon=True).start()


def _greet(
    far: socket.socket,
    tls: ssl.SSLContext | None,
    settings: _Settings,
    streams: _Streams,
    strangers: threading.BoundedSemaphore,
) -> None:
    """Find out who it is, connect it to QEMU, and carry the stream."""
    opened = ExitStack()
    opened.enter_context(closing(far))
    try:
        _keep_alive(far)
        far.settimeout(_GREET_S)
        if tls is not None:
            far = opened.enter_context(closing(tls.wrap_socket(far, server_side=True)))
        ticket, _, route = _line(far).partition(" ")
        if not hmac.compare_digest(ticket, settings["ticket"]) or route not in settings["routes"]:
            raise ConnectionError("its ticket is not the one of this landing")
        near = opened.enter_context(closing(socket.socket(socket.AF_UNIX)))
        near.connect(settings["routes"][route])
        streams.begin()
    except (OSError, ValueError) as error:
        _say(f"a connection was refused: {_words(error)}")
        opened.close()
        return
    finally:
        strangers.release()
    with suppress(OSError):
        far.sendall(_ANSWER)
    _carry(near, far, opened, route, streams, last=True)


def _line(far: socket.socket) -> str:
    """The first line, byte by byte: what follows is QEMU's."""
    found = b""
    while not found.endswith(b"\n"):
        byte = far.recv(1)
        if not byte or len(found) > _LINE_BYTES:
            raise ConnectionError("it did not send its ticket")
        found += byte
    return found[:-1].decode("ascii")


def _carry(
    near: socket.socket, far: socket.socket, opened: ExitStack, route: str, streams: _Streams, *, last: bool = False
) -> None:
    with opened:
        try:
            for end in (near, far):
                end.setblocking(False)
            _pump(_Way(near, far), _Way(far, near))
        except OSError as error:
            _say(f"the stream has broken off: {_words(error)}")
    streams.end(route, last=last)


class _Way:
    """One direction: what was read from ``source`` and is not yet written to ``sink``."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self._waiting, self._at_end, self.over = bytearray(), False, False

    @property
    def reads(self) -> bool:
        """Whether it has room for more."""
        return not self._at_end and len(self._waiting) < _WAITING

    @property
    def writes(self) -> bool:
        """Whether it has something to write."""
        return bool(self._waiting)

    @property
    def hidden(self) -> bool:
        """Whether it can read without waiting, although its descriptor is not readable: TLS has decrypted more already."""
        return self.reads and isinstance(self.source, ssl.SSLSocket) and self.source.pending() > 0

    def go_on(self) -> None:
        """Read and write what is possible without waiting."""
        with suppress(*_LATER):
            while self.reads:  # TLS gives 16 KiB at a time
                piece = self.source.recv(_PIECE)
                self._waiting += piece
                self._at_end = not piece
        if self._waiting:
            with suppress(*_LATER):
                del self._waiting[: self.sink.send(self._waiting)]
        if self._at_end and not self._waiting and not self.over:
            self.over = True
            # Of the connection below TLS: what the other side still sends can be read.
            with suppress(OSError):
                socket.socket.shutdown(self.sink, socket.SHUT_WR)


def _pump(*ways: _Way) -> None:
    """Carry both directions until both have ended. Raises OSError for a connection that breaks off."""
    while not all(way.over for way in ways):
        ready = select.poll()
        for fd, mask in _masks(ways):
            ready.register(fd, mask)
        ready.poll(0 if any(way.hidden for way in ways) else None)
        for way in ways:
            way.go_on()


def _masks(ways: tuple[_Way, ...]) -> Iterator[tuple[int, int]]:
    """What to wait for at each of the two connections. Nothing of one whose reader has no room."""
    for forth, back in (ways, ways[::-1]):
        mask = select.POLLIN * forth.reads | select.POLLOUT * back.writes
        if mask:
            yield forth.source.fileno(), mask


def _words(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _say(text: str) -> None:
    with suppress(OSError):  # its log is full
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
