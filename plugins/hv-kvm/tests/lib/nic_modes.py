"""The modes of NICs whose links are on the node, each with what a test has to prepare in its network namespace."""

from __future__ import annotations

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


def _nics(mode: str, link: str, **more: Any) -> tuple[hvcore.Nic, ...]:
    return tuple(hvcore.Nic(mode=mode, link=link, mac=mac, **more) for mac in MACS)


_PREPARED: Final = {
    **dict.fromkeys(MODES, _at_a_bridge),
    "openvswitch": _openvswitch,
    "macvtap": _macvtap,
    "bridged with limits": _limited,
}

NIC_MODES: Final = [
    *map(pytest.param, MODES),
    pytest.param("openvswitch", marks=NEEDS_OVS),
    pytest.param("macvtap"),
    pytest.param("bridged with limits"),
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
