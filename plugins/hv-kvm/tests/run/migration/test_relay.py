"""The relay between two nodes, without QEMU: programs that connect, send and close, on either side."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hv_kvm.run.migration import relay
from hv_kvm.run.migration.credentials import Credentials, credentials

PATIENCE_S = 60.0


class Relays:
    """The two relays, and the sockets that the two QEMUs would have."""

    def __init__(self, root: Path, opened: ExitStack) -> None:
        self.opened, self.root = opened, root
        self.keys = {name: self._credentials(name) for name in ("source", "target", "stranger")}
        self.port = socket.create_server(("127.0.0.1", 0))
        self.into = self._listening("target", "state")
        self.out_of = self._listening("source", "in")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.controls: list[socket.socket] = []

    def _credentials(self, name: str) -> Credentials:
        (self.root / name).mkdir()
        return credentials(self.root / name)

    def _listening(self, side: str, name: str) -> socket.socket:
        found = self.opened.enter_context(socket.socket(socket.AF_UNIX))
        found.bind(str(self.root / side / name))
        found.listen()
        found.settimeout(PATIENCE_S)
        return found

    def run(self, *, sends: bool, ticket: str = "t1", peer: str | None = None, tls: bool = True) -> None:
        """Start one of them."""
        side, other = ("source", "target") if sends else ("target", "source")
        ours, theirs = socket.socketpair()
        own = self.keys[side]
        settings: dict[str, Any] = {
            "sends": sends,
            "ticket": ticket,
            "directory": str(self.root / side),
            "routes": {"state": "state"},
            "host": "127.0.0.1",
            "port": self.port.getsockname()[1],
            "peer": self.keys[peer or other].certificate if tls else "",
            "key": own.key,
            "certificate": own.certificate,
        }
        with theirs:
            words = (sys.executable, "-I", "-S", relay.__file__, str(theirs.fileno()))
            self.processes.append(subprocess.Popen(words, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE))
        self.controls.append(self.opened.enter_context(ours))
        listener = self.out_of if sends else self.port
        socket.send_fds(ours, [json.dumps(settings).encode() + b"\n"], [listener.fileno()])
        ours.settimeout(PATIENCE_S)
        assert ours.recv(1) == b"\n"

    def leaves(self) -> socket.socket:
        """A connection of the QEMU that sends."""
        found = self.opened.enter_context(socket.socket(socket.AF_UNIX))
        found.settimeout(PATIENCE_S)
        found.connect(str(self.root / "source" / "in"))
        return found

    def arrives(self) -> socket.socket:
        """It, at the QEMU that takes it."""
        found = self.opened.enter_context(self.into.accept()[0])
        found.settimeout(PATIENCE_S)
        return found

    def said(self, index: int) -> str:
        """The first line that one of them prints."""
        output = self.processes[index].stderr
        assert output is not None
        return output.readline().decode()


@pytest.fixture
def relays(tmp_path: Path) -> Iterator[Relays]:
    """Two relays that are not started, and ended at the end."""
    with ExitStack() as opened:
        found = Relays(tmp_path, opened)
        opened.enter_context(found.port)
        yield found
        for control in found.controls:
            control.close()
        for process in found.processes:
            process.communicate(timeout=PATIENCE_S)


def everything(sock: socket.socket) -> bytes:
    """What comes until the end."""
    found = bytearray()
    while piece := sock.recv(1 << 16):
        found += piece
    return bytes(found)


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_both_directions_arrive_whole_and_end_one_after_the_other(relays: Relays, *, tls: bool) -> None:
    for sends in (False, True):
        relays.run(sends=sends, tls=tls)
    near, words = relays.leaves(), os.urandom(3 << 20)
    near.sendall(b"first")
    far = relays.arrives()
    assert far.recv(5) == b"first"

    def send() -> None:
        near.sendall(words)
        near.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    assert everything(far) == words
    sender.join(PATIENCE_S)
    far.sendall(b"thanks")
    far.close()
    assert everything(near) == b"thanks"
    near.close()
    assert relays.processes[0].wait(PATIENCE_S) == 0  # the last stream on the route of the state has ended


def test_connections_arrive_in_the_order_in_which_they_are_made(relays: Relays) -> None:
    for sends in (False, True):
        relays.run(sends=sends)
    leaving = [relays.leaves() for _ in range(8)]
    for number, near in enumerate(leaving):
        near.sendall(bytes([number]))
    assert [relays.arrives().recv(1) for _ in leaving] == [bytes([number]) for number in range(8)]


@pytest.mark.parametrize("side", [False, True], ids=["target", "source"])
def test_only_the_certificate_of_the_other_is_trusted(relays: Relays, *, side: bool) -> None:
    for sends in (False, True):
        relays.run(sends=sends, peer="stranger" if sends is side else None)
    assert relays.leaves().recv(1) == b""
    assert "certificate" in relays.said(int(side)) or "alert" in relays.said(int(side))


def test_a_ticket_of_another_landing_is_refused(relays: Relays) -> None:
    relays.run(sends=False, tls=False)
    relays.run(sends=True, tls=False, ticket="t2")
    assert relays.leaves().recv(1) == b""
    assert "its ticket is not the one of this landing" in relays.said(0)


def test_strangers_see_nothing_and_do_no_harm(relays: Relays) -> None:
    relays.run(sends=False)
    address = relays.port.getsockname()
    with ExitStack() as stack:
        for words in (b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(1 << 16)):
            stranger = stack.enter_context(socket.create_connection(address))
            stranger.sendall(words)
        relays.run(sends=True)
        near = relays.leaves()
        near.sendall(b"x")
        assert relays.arrives().recv(1) == b"x"


def test_a_target_that_is_not_there_is_named(relays: Relays) -> None:
    relays.run(sends=True)
    relays.port.close()
    assert relays.leaves().recv(1) == b""
    assert "cannot reach 127.0.0.1 port" in relays.said(0)


def test_a_connection_that_breaks_off_breaks_off_on_the_other_side(relays: Relays) -> None:
    for sends in (False, True):
        relays.run(sends=sends)
    near = relays.leaves()
    near.sendall(b"x")
    far = relays.arrives()
    assert far.recv(1) == b"x"
    relays.processes[1].kill()
    assert far.recv(1) == b""
