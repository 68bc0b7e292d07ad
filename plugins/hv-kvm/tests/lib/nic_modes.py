"""The modes of NICs that have something on the node, each with what a test has to prepare in its network namespace."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from connected import MACS, MODES, connected
from empty_network import Network, empty_network
from open_vswitch import NEEDS_OVS, open_vswitch

import hvcore

NEEDS_PASST: Final = pytest.mark.skipif(
    shutil.which("passt") is None or shutil.which("nft") is None, reason="no passt or nft: ./dev setup"
)

__all__ = ["NIC_MODES", "SAMPLE_OF_MODES", "ModeNetwork", "mode_network"]


@dataclass
class ModeNetwork:
    """A network namespace in which NICs of one mode can start: two of them, and the parameters that they need.

    ``before`` are its links; ``more`` says what else is there, such as ports in a database.
    """

    net: Network
    nics: tuple[hvcore.Nic, ...]
    params: dict[str, Any] = field(default_factory=dict)
    more: Callable[[], set[str]] = set
    before: set[str] = field(default_factory=set)

    def leftovers(self) -> list[str]:
        """What a guest left here."""
        return sorted((self.net.links() - self.before) | self.more())


@contextmanager
def _at_a_bridge(mode: str, net: Network, folder: Path) -> Iterator[ModeNetwork]:
    net.bridge()
    net.forward()
    params = connected(mode, folder)
    yield ModeNetwork(net, params.pop("nics"), params, lambda: set(net.rules()))


@contextmanager
def _openvswitch(mode: str, net: Network, folder: Path) -> Iterator[ModeNetwork]:
    with open_vswitch(folder / "openvswitch") as ovs:
        yield ModeNetwork(net, _nics(mode, "ovs0", vlan="10"), {"ovs_socket": ovs.socket}, ovs.ports)


@contextmanager
def _macvtap(mode: str, net: Network, folder: Path) -> Iterator[ModeNetwork]:
    net.ip("link", "add", "up0", "type", "veth", "peer", "name", "wire0")
    for name in ("up0", "wire0"):
        net.ip("link", "set", name, "up")
    yield ModeNetwork(net, _nics(mode, "up0"))


@contextmanager
def _limited(mode: str, net: Network, folder: Path) -> Iterator[ModeNetwork]:
    net.bridge()
    yield ModeNetwork(net, _nics("bridged", "br0", bandwidth_to_guest=10**7, bandwidth_from_guest=10**7))


@contextmanager
def _user(mode: str, net: Network, folder: Path) -> Iterator[ModeNetwork]:
    net.ip("link", "add", "up0", "type", "veth", "peer", "name", "wire0")
    for name in ("up0", "wire0"):
        net.ip("link", "set", name, "up")
    for address, gateway in (("198.51.100.2/24", "198.51.100.1"), ("2001:db8::2/64", "2001:db8::1")):
        net.ip("addr", "add", address, "dev", "up0")
        net.ip("route", "add", "default", "via", gateway)
    first = hvcore.Nic(mode="user", forward=("2222:22", "127.0.0.1:0:80", "5353:53/udp"), egress="internet")
    second = hvcore.Nic(mode="user", forward=("[::1]:8080:80",), egress="none", mac=MACS[1])

    def more() -> set[str]:
        return {*net.run("nft", "list", "tables").splitlines(), *net.run("ss", "-Hlntu").splitlines()}

    yield ModeNetwork(net, (first, second), {"user_network": "passt"}, more)


def _nics(mode: str, link: str, **more: Any) -> tuple[hvcore.Nic, ...]:
    return tuple(hvcore.Nic(mode=mode, link=link, mac=mac, **more) for mac in MACS)


_PREPARED: Final = {
    **dict.fromkeys(MODES, _at_a_bridge),
    "openvswitch": _openvswitch,
    "macvtap": _macvtap,
    "bridged with limits": _limited,
    "user with forwards and egress": _user,
}

NIC_MODES: Final = [
    *map(pytest.param, MODES),
    pytest.param("openvswitch", marks=NEEDS_OVS),
    pytest.param("macvtap"),
    pytest.param("bridged with limits"),
    pytest.param("user with forwards and egress", marks=NEEDS_PASST),
]
"""All, for ``parametrize``."""

SAMPLE_OF_MODES: Final = [
    mode for mode in NIC_MODES if mode.values[0] in ("bridged by script", "openvswitch", "macvtap")
]


@contextmanager
def mode_network(mode: str, folder: Path) -> Iterator[ModeNetwork]:
    """A network namespace of this thread that is prepared for NICs of that mode."""
    with empty_network() as net, _PREPARED[mode](mode, net, folder) as prepared:
        prepared.before = net.links()
        yield prepared
