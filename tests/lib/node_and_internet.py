"""A node of the test's own, with a wire to an "internet", in two network namespaces. Needs root.

The thread that enters is in the node's namespace, and so is what it starts. In both, a server answers TCP and UDP at
`PORT` and at port 53 on all addresses. A question for a name gets the answer that there is no such name.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest
from empty_network import empty_network

from hvcore.deadline import Deadline

__all__ = [
    "NODE",
    "OUTSIDE",
    "PORT",
    "PRIVATE",
    "Target",
    "node_and_internet",
    "reached_as",
    "reached_by",
]

Target = tuple[str, str, int]
"""Protocol, address, port."""

NODE: Final = ("198.51.100.2", "2001:db8::2")
OUTSIDE: Final = ("198.51.100.1", "2001:db8::1")
PRIVATE: Final = ("10.9.0.1", "192.168.9.1", "169.254.169.254", "fd09::1")
PORT: Final = 4321

_SERVE: Final = f"""
import selectors, socket, sys
print("made", flush=True)
sys.stdin.readline()
waits = selectors.DefaultSelector()
for port in ({PORT}, 53):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        made = socket.socket(socket.AF_INET6, kind)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        made.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            made.listen(64)
        waits.register(made, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in waits.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            connected, _ = key.fileobj.accept()
            connected.sendall(b"here")
            connected.close()
        else:
            data, control, _, sender = key.fileobj.recvmsg(512, 256)
            answer = b"here" if len(data) < 12 else data[:2] + bytes([0x81, 0x83]) + data[4:]  # DNS: no such name
            key.fileobj.sendmsg([answer], control, 0, sender)
"""

_PYTHON: Final = os.path.realpath(sys.executable)
_TRY: Final = """
import json, socket, sys
found = []
for kind, address, port in json.loads(sys.argv[1]):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as tried:
        tried.settimeout(float(sys.argv[2]))
        try:
            tried.connect((address, port))
            if kind == "udp":
                tried.send(b"there?")
            if tried.recv(10) == b"here":
                found.append([kind, address, port])
        except OSError:
            pass
print(json.dumps(found))
"""


@contextmanager
def node_and_internet() -> Iterator[int]:
    """The calling thread is in the node's namespace, with the default route to the internet; yields a pid of that."""
    if os.geteuid() != 0 or any(shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None for name in _TOOLS):
        pytest.skip(f"needs root and {', '.join(_TOOLS)}: sudo ./dev test")
    with ExitStack() as undo:
        undo.enter_context(empty_network())
        node, internet = (undo.enter_context(_server(prefix)) for prefix in ([], ["unshare", "-n"]))
        there = ["nsenter", "-t", str(internet.pid), "-n"]
        run("ip link set lo up", there)
        run(f"ip link add hv-node type veth peer name hv-wire netns {internet.pid}")
        for address in NODE:
            run(f"ip addr add {address}/{_length(address)} dev hv-node {_nodad(address)}")
        for address in (*OUTSIDE, *PRIVATE):
            run(f"ip addr add {address}/{_length(address)} dev hv-wire {_nodad(address)}", there)
        run("ip link set hv-node up")
        run("ip link set hv-wire up", there)
        for address in OUTSIDE:
            run(f"ip -{6 if ':' in address else 4} route add default via {address}")
        for server in (node, internet):
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(b"\n")
            server.stdin.flush()
            assert server.stdout.readline() == b"ready\n"
        _wait_for(OUTSIDE[1])
        yield internet.pid


def _wait_for(address: str) -> None:
    """Return when the address answers: the kernel reports a new link to IPv6 a moment later."""
    deadline = Deadline(20)
    while True:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tried:
            tried.settimeout(0.05)
            try:
                tried.connect((address, PORT))
            except OSError:
                assert deadline.left() > 0, f"{address} does not answer"
            else:
                return


_TOOLS: Final = ("ip", "unshare", "nsenter", "setpriv")


def run(words: str, prefix: Iterable[str] = ()) -> None:
    """Run a program that has to succeed."""
    subprocess.run([*prefix, *words.split()], check=True)


def reached_as(uid: int, targets: Iterable[Target], *, wait_s: float = 0.3) -> set[Target]:
    """Those of the targets from which a process of that uid gets an answer. Each of the others costs ``wait_s``."""
    user = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
    return reached_by(user, targets, wait_s=wait_s)


def reached_by(
    prefix: Iterable[str], targets: Iterable[Target], *, wait_s: float = 0.3, python: str = _PYTHON
) -> set[Target]:
    """Those of the targets from which a process gets an answer that the command ``prefix`` runs."""
    argv = [*prefix, python, "-I", "-c", _TRY, json.dumps(list(targets)), str(wait_s)]
    done = subprocess.run(argv, check=True, capture_output=True, cwd="/")
    return {(kind, address, port) for kind, address, port in json.loads(done.stdout)}


@contextmanager
def _server(prefix: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    argv = [*prefix, _PYTHON, "-I", "-c", _SERVE]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"made\n"
            yield server
        finally:
            server.kill()


def _length(address: str) -> int:
    return 64 if ":" in address else 24


def _nodad(address: str) -> str:
    return "nodad" if ":" in address else ""
