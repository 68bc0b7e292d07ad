"""Where ssh in a guest answers: at a forwarded port of the node, or at an address of the guest."""

from __future__ import annotations

import re
import socket
import time
from typing import Final, NamedTuple

import hvcore

__all__ = ["SshPlace", "ssh_place", "wait_for_ssh"]

_SSH_PORT: Final = 22
_FORWARD: Final = re.compile(r"(?:(?P<v4>[0-9.]+):|\[(?P<v6>[0-9A-Fa-f:.]+)\]:)?(?P<port>[0-9]+):22(?:/tcp)?")
_BANNER: Final = b"SSH-"
_OURS: Final = b"SSH-2.0-hvcore\r\n"
"""Sent first, as the protocol allows (RFC 4253, 4.2): passt connects to the guest only when it has something to send."""
_BANNER_S: Final = 10.0
_AGAIN_S: Final = 0.2


class SshPlace(NamedTuple):
    """A host and a port of this node's network."""

    host: str
    port: int


def ssh_place(info: hvcore.InstanceInfo) -> SshPlace | None:
    """Where to connect: the first forwarded port to 22, else the first address that is known of the guest. Pure."""
    for forward in info.details.get("forwards", ()):
        found = _FORWARD.fullmatch(forward)
        if found is not None and found["port"] != "0":
            return SshPlace(found["v4"] or found["v6"] or "127.0.0.1", int(found["port"]))
    seen = [address for one in info.interfaces for address in one.seen]
    given = [address.partition("/")[0] for nic in info.nics if nic.mode != "user" for address in nic.ip]
    return next((SshPlace(address, _SSH_PORT) for address in (*given, *seen)), None)


def wait_for_ssh(node: hvcore.Node, name: str, wait_s: float) -> float:
    """Wait until ssh of the guest answers; the seconds that it took.

    Raises `DeadlineError`, and `OperationError` if the guest ends meanwhile or there is no way to it.
    """
    began = time.monotonic()
    end = began + wait_s
    while True:
        info = node.info(name)
        if info.state is not hvcore.State.RUNNING:
            raise hvcore.OperationError(f"{name}: is {info.state}, so ssh does not answer; see 'hv log {name}'")
        place = ssh_place(info)
        left_s = end - time.monotonic()
        if place is not None and left_s > 0 and _answers(place, min(left_s, _BANNER_S)):
            return time.monotonic() - began
        if left_s <= 0:
            todo = "see 'hv console' for what the guest prints, or wait longer" if place else no_way_in()
            raise hvcore.DeadlineError(subject=name, waiting_for="answer of ssh", waited_s=wait_s, todo=todo)
        time.sleep(min(_AGAIN_S, max(0.0, left_s)))


def no_way_in() -> str:
    """What to do when nothing leads to the guest."""
    return 'forward a port, such as forward = ["127.0.0.1:0:22"] of a NIC in mode user'


def _answers(place: SshPlace, within_s: float) -> bool:
    """Whether an ssh server speaks there. A forwarded port takes connections before the guest does."""
    try:
        with socket.create_connection(place, timeout=within_s) as connection:
            connection.sendall(_OURS)
            return connection.recv(len(_BANNER), socket.MSG_WAITALL) == _BANNER
    except OSError:
        return False
