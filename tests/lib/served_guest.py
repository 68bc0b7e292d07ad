"""A Linux guest with a web server, and a forwarded port that leads to it. Run as a program, it proves that from outside.

``python served_guest.py RUN_DIR INSTANCE_FILE ADDRESS...`` starts the guest as the calling user and prints what was proved.
The addresses are those that the guest tries to reach.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from node_and_internet import PORT
from udp_echo import commands

import hvcore

__all__ = [
    "LOOPBACK",
    "NAME",
    "Console",
    "console",
    "echoed",
    "fetch",
    "instance_text",
    "ports",
    "reached",
    "send_loopback_out",
    "serve",
    "started",
]

NAME: Final = "web1"
_GREETING_S: Final = 300.0
_ANSWER_S: Final = 180.0
_DATAGRAM_S: Final = 5.0
_DATAGRAMS: Final = 6
_LEASE: Final = (
    '[ "$1" != bound ] || { /bin/busybox ip addr add $ip/$mask dev $interface; '
    '/bin/busybox ip route add default via $router; echo "lease $ip router $router dns $dns end"; }'
)
_COMMANDS: Final = (
    "/bin/busybox ip link set lo up",
    "/bin/busybox ip link set eth0 up",
    f"echo '#!/bin/sh' >/lease; echo '{_LEASE}' >>/lease; /bin/busybox chmod 755 /lease",
    "/bin/busybox udhcpc -i eth0 -n -q -t 20 -s /lease",
    "/bin/busybox mkdir /www; echo 'hello from the guest' >/www/index.html",
    "/bin/busybox httpd -p 80 -h /www; echo httpd $?",
)
LOOPBACK: Final = "127.8.9.1"
"""Of the node, and not an address at which its name server may be."""

_RAW: Final = (
    "/bin/busybox ip addr flush dev lo",
    "/bin/busybox ip link set lo down",
    "echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet",
    "/bin/busybox ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0",
)


def instance_text(kernel: Path, ram_disk: Path, *, nic: str, params: str = "", name: str = NAME) -> str:
    """An instance file."""
    return f"""
name = "{name}"
driver = "kvm"
memory_mib = 192
[[nics]]
{nic}
[params]
kvm_flag = "disabled"
kernel_path = "{kernel}"
initrd_path = "{ram_disk}"
kernel_args = "quiet panic=1"
{params}
"""


class Console:
    """A person's end of the serial console."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.seen = sock, b""

    def until(self, wanted: str, deadline_s: float = _ANSWER_S) -> str:
        """What the guest wrote until these words."""
        give_up = time.monotonic() + deadline_s
        while wanted.encode() not in self.seen:
            self.sock.settimeout(max(0.01, give_up - time.monotonic()))
            data = self.sock.recv(65536)
            assert data, f"the console ended: {self.seen[-500:]!r}"
            self.seen += data
        before, _, self.seen = self.seen.partition(wanted.encode())
        return (before + wanted.encode()).decode(errors="replace")

    def run(self, line: str, answer: str) -> str:
        """Run a command, and wait for these words in its output."""
        self.sock.sendall(line.encode() + b"\n")
        return self.until(answer)


@contextmanager
def console(node: hvcore.Node, name: str = NAME) -> Iterator[Console]:
    path = node.console(name).socket
    assert path is not None
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        yield Console(sock)


def serve(terminal: Console) -> str:
    """Let the guest, when it has booted, get an address by DHCP and serve a page; the lease."""
    terminal.until("with 1 cpus", _GREETING_S)
    for line in (*_COMMANDS[:-1], *commands()):
        terminal.sock.sendall(line.encode() + b"\n")
    terminal.run(_COMMANDS[-1], "httpd 0")
    return terminal.run("/bin/busybox ip addr show eth0; echo end of addresses", "\nend of addresses")


def send_loopback_out(terminal: Console) -> None:
    """Afterwards the guest sends packets to 127.0.0.0/8 through its NIC."""
    for line in _RAW:
        terminal.sock.sendall(line.encode() + b"\n")


def reached(terminal: Console, addresses: Iterable[str]) -> set[tuple[str, str]]:
    """Those that answer the guest, over TCP and UDP."""
    found = set()
    for address in addresses:
        for kind, command, answer in (
            ("tcp", f"nc -w 1 {address} {PORT} </dev/null", "here"),
            ("udp", f"nslookup name.test {address} 2>&1", "NXDOMAIN"),
        ):
            # The echo of the line that is typed has no " ended".
            said = terminal.run(f'echo "answer: $(/bin/busybox timeout 2 /bin/busybox {command}) end""ed"', " ended")
            if answer in said.rpartition("answer: ")[2]:
                found.add((kind, address))
    return found


def started(node: hvcore.Node, file: Path) -> hvcore.Outcome:
    """The guest, started and paused: nothing of its console is missed."""
    return node.driver("kvm").start(hvcore.load_instance(str(file)), paused=True)


def ports(node: hvcore.Node, name: str = NAME) -> list[str]:
    """The forwards, as ``hv info`` has them."""
    found: list[str] = node.info(name).details["forwards"]
    return found


def fetch(address: str, forward: str) -> str:
    """The page that curl gets at that address and the port of the forward."""
    port = _port(forward)
    host = f"[{address}]" if ":" in address else address
    argv = ["curl", "--silent", "--show-error", "--globoff", "--max-time", "20", "--noproxy", "*"]
    argv += ["--retry", "5", "--retry-all-errors", f"http://{host}:{port}/"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def echoed(address: str, forward: str) -> str:
    """What the guest sends back of a datagram to that address and the port of the forward."""
    family, said = socket.AF_INET6 if ":" in address else socket.AF_INET, ""
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_DATAGRAM_S)
        sender.connect((address, _port(forward)))
        for _ in range(_DATAGRAMS):  # the first ones may be lost, as datagrams are
            try:
                sender.send(b"a datagram")
                return sender.recv(1500).decode()
            except OSError as error:
                said = str(error)
    return said


def _address(forward: str) -> str:
    """The address of a forward; of one for all addresses, 127.0.0.1."""
    port = forward.partition("/")[0].rpartition(":")[0]
    return port.rpartition(":")[0].strip("[]") or "127.0.0.1"


def _port(forward: str) -> int:
    return int(forward.partition("/")[0].rpartition(":")[0].rpartition(":")[2])


def main(arguments: list[str]) -> int:
    """Start, fetch over both families, try the addresses, stop."""
    node = hvcore.Node(Path(arguments[0]))
    instance = hvcore.load_instance(arguments[1])
    plan = [step.what for step in node.driver("kvm").plan(instance).steps]
    outcome = started(node, Path(arguments[1]))
    facts: dict[str, Any] = {"notes": outcome.notes, "plan": plan}
    try:
        with console(node) as terminal:
            node.resume(NAME)
            facts["addresses"] = serve(terminal)
            facts["forwards"] = ports(node)
            facts["details"] = node.info(NAME).details
            tcp = [one for one in ports(node) if not one.endswith("/udp")]
            (udp,) = (one for one in ports(node) if one.endswith("/udp"))
            facts["pages"] = [fetch(_address(forward), forward) for forward in tcp]
            facts["echoes"] = [echoed(address, udp) for address in ("127.0.0.1", "::1")]
            if arguments[2:]:
                send_loopback_out(terminal)
                facts["reached"] = sorted(reached(terminal, arguments[2:]))
                facts["reason"] = node.info(NAME).reason
    finally:
        node.stop(NAME, force=True)
    sys.stdout.write(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
