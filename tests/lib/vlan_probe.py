"""Run in a guest whose kernel filters VLANs: ports of a bridge by `BridgePortKind`, and which packets reach which port.

Prints ``FROM TAG: PORT...`` for each packet: the ports that it left the bridge by, each with the tag that it had there.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from hvcore.host.network.links import add_veth, set_link, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.model.network.node_links import BridgePort, NodeLink
from hvcore.model.resource import Resource
from hvcore.resources.bridge_port import BridgePortKind

PORTS: Final = {"a": "10", "b": "10", "c": "20", "d": "trunk:10,20-21", "e": ".10:20", "f": None}
_PACKET_AUXDATA, _SOL_PACKET, _ALL = 8, 263, 3
_KIND: Final = 0x88B5  # an Ethernet type for experiments


class Held(dict[Any, NodeLink]):
    """The part of `hvcore.resources.held.Held` that the kind uses."""

    owner = SimpleNamespace(name="web1", progress=lambda text: None)


def main() -> None:
    """Make the ports, and send packets."""
    sockets = {}
    with Netlink() as netlink:
        for name, vlan in PORTS.items():
            add_veth(netlink, name, address="fe:00:00:00:00:01", alias="x", peer=f"{name}0", peer_address=mac(name))
            set_link(netlink, the_link(netlink, f"{name}0").index, up=True)
            link: Resource[NodeLink] = Resource(key=name)
            held = Held({link: NodeLink(name=name)})
            BridgePortKind().acquire(BridgePort(key="port", link=link, bridge="br0", vlan=vlan), held)  # type: ignore[arg-type]
            sockets[name] = opened(f"{name}0")
    for sender, tag in (("a", None), ("c", None), ("d", 10), ("d", 20), ("d", 30), ("e", None), ("e", 20), ("f", None)):
        for sock in sockets.values():
            received(sock, 0.0)
        sockets[sender].send(packet(sender, tag))
        others = ((name, received(sock, 1.0)) for name, sock in sockets.items() if name != sender)
        shown = " ".join(f"{name}={found}" for name, found in others if found is not None)
        print(f"{sender} {tag or '-'}: {shown}", flush=True)  # noqa: T201 - the test reads it


def mac(name: str) -> str:
    return f"aa:00:00:00:00:{ord(name):02x}"


def opened(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    sock.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
    sock.bind((interface, _ALL))
    return sock


def packet(sender: str, tag: int | None) -> bytes:
    tagged = b"" if tag is None else struct.pack("!HH", 0x8100, tag)
    source = bytes.fromhex(mac(sender).replace(":", ""))
    return b"\xff" * 6 + source + tagged + struct.pack("!H", _KIND) + bytes(46)


def received(sock: socket.socket, wait_s: float) -> str | None:
    """The tag of the packet that came, ``-`` for none; None when no packet of ours came. Drops all others."""
    sock.settimeout(wait_s or 0.001)
    while True:
        try:
            data, more, _, address = sock.recvmsg(2048, 256)
        except TimeoutError:
            return None
        if address[2] == 4:  # PACKET_OUTGOING: what we sent
            continue
        kind = struct.unpack_from("!H", data, 12)[0]
        if kind == 0x8100 and struct.unpack_from("!H", data, 16)[0] == _KIND:
            return str(struct.unpack_from("!H", data, 14)[0] & 0xFFF)
        if kind == _KIND:
            status, tag = struct.unpack_from("=I", more[0][2])[0], struct.unpack_from("=H", more[0][2], 16)[0]
            return str(tag & 0xFFF) if status & 0x10 else "-"  # TP_STATUS_VLAN_VALID
        continue


if __name__ == "__main__":
    Path("/sys/class/net/br0/bridge/vlan_filtering").write_text("1")
    main()
