"""What the link of a NIC is connected to, by what, and how it is limited: the same for every driver that makes links. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hvcore.model.network.nic_scripts import NetworkScripts
from hvcore.model.network.node_links import Bandwidth, BridgePort, OvsPort, RoutedPort, Tap, Veth, address_claim
from hvcore.model.network.ovs_bridge import OvsBridge
from hvcore.model.resource import Resource

__all__ = ["nic_connection", "nic_limits", "nic_scripts", "nic_switch"]


def nic_switch(
    index: int, mode: str, *, to: str | None, socket: str, vlan: str | None, from_guest: int | None
) -> OvsBridge | None:
    """The bridge of Open vSwitch of NIC ``index``, which its link needs to know; None in every mode but openvswitch."""
    if mode != "openvswitch":
        return None
    return OvsBridge(
        key=f"nic{index}.switch",
        given_by=f"nics[{index}].link",
        name=to or "",
        socket=socket,
        vlan=vlan,
        from_guest=from_guest,
    )


def nic_connection(  # noqa: PLR0913 - each is a key of the NIC
    index: int,
    mode: str,
    link: Resource[Any],
    *,
    to: str | None,
    addresses: tuple[str, ...] = (),
    vlan: str | None = None,
    mtu: int | None = None,
    to_guest: int | None = None,
    from_guest: int | None = None,
) -> Iterator[Resource[Any]]:
    """What hvcore itself connects the link of NIC ``index`` to: the bridge ``to``, or the node's routes to the addresses.

    ``to`` is the key ``link`` of the NIC. In mode routed, it is the routing table, and each address is for this instance
    alone. In mode openvswitch, the link has its switch, and the port has the limits. In any other mode, nothing.
    """
    where = f"nics[{index}]"
    if mode == "bridged":
        yield BridgePort(
            key=f"nic{index}.port", given_by=f"{where}.link", link=link, bridge=to or "", vlan=vlan, mtu=mtu
        )
    elif isinstance(link, Tap | Veth) and link.switch is not None:
        yield OvsPort(
            key=f"nic{index}.port",
            given_by=f"{where}.link",
            link=link,
            bridge=link.switch,
            mac=link.mac,
            vlan=vlan,
            mtu=mtu,
            to_guest=to_guest,
            from_guest=from_guest,
        )
    elif mode == "routed":
        routed = tuple(address.partition("/")[0] for address in addresses)
        for number, address in enumerate(routed):
            yield address_claim(f"nic{index}.ip{number}", f"{where}.ip", address)
        yield RoutedPort(
            key=f"nic{index}.port",
            given_by=f"{where}.mode",
            table_given_by=f"{where}.link",
            link=link,
            addresses=routed,
            table=to,
            mtu=mtu,
        )


def nic_scripts(  # noqa: PLR0913 - each is a parameter, or a key of the NIC
    index: int,
    mode: str,
    link: Resource[Any],
    *,
    to: str | None,
    up: str | None,
    down: str | None,
    environment: tuple[tuple[str, str], ...],
) -> Iterator[NetworkScripts]:
    """The parameters ``network_up_script`` and ``network_down_script`` for the link of NIC ``index``; nothing without both."""
    if up is not None or down is not None:
        yield NetworkScripts(
            key=f"nic{index}.scripts",
            given_by="params.network_up_script",
            down_given_by="params.network_down_script",
            bridge_given_by=f"nics[{index}].link",
            link=link,
            up=up,
            down=down,
            mode=mode,
            bridge=to if mode == "bridged" else None,
            environment=environment,
        )


def nic_limits(
    index: int, link: Resource[Any], mac: str, *, to_guest: int | None, from_guest: int | None
) -> Iterator[Bandwidth]:
    """The limits of the link of NIC ``index``, in bits per second; nothing without any."""
    limited = "to" if to_guest is not None else "from" if from_guest is not None else None
    if limited is not None:
        yield Bandwidth(
            key=f"nic{index}.limits",
            given_by=f"nics[{index}].bandwidth_{limited}_guest",
            link=link,
            mac=mac,
            to_guest=to_guest,
            from_guest=from_guest,
        )
