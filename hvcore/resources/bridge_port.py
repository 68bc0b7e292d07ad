"""Ports of a bridge: a link of the node is attached, with the VLANs of the port. The port goes with the link."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from hvcore.errors import OperationError, Problem
from hvcore.host.network.links import LinkFacts, find_link, port_vlans, set_link, set_port_vlans, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.model.network.node_links import BridgePort
from hvcore.model.plan import Step
from hvcore.params.network_types import vlan_of
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.node_link import beside
from hvcore.resources.owner import Owner, Site

__all__ = ["BridgePortKind", "no_bridge"]

_TODO: Final = {
    errno.EINVAL: "correct mtu of the NIC",
    errno.EXFULL: "use another bridge: the kernel gives a bridge at most 1024 ports",
}


class BridgePortKind(ResourceKind[BridgePort, None], name="bridge-port", turn=Turn.NETWORK):
    """Nothing of it outlives its link, so the ledger lists only the link."""

    def verify(self, resource: BridgePort, site: Site) -> Iterator[Problem]:
        """The bridge must exist, and must filter VLANs if the port has one."""
        with Netlink() as netlink:
            found = find_link(netlink, resource.bridge)
            problem = _problem(resource, found)
        if problem is not None:
            yield problem

    def describe(self, resource: BridgePort, site: Site) -> Iterator[Step]:
        """The bridge, and the VLANs."""
        vlan = "" if resource.vlan is None else f", VLAN {resource.vlan}"
        yield Step(kind="connect", what=f"{resource.link.key} to bridge {resource.bridge!r}{vlan}")

    def acquire(self, resource: BridgePort, held: Held) -> None:
        """Attach the link, with its MTU, and set it up. A link that is a port already leaves its bridge first.

        Raises `OperationError`.
        """
        name, link = held.owner.name, held[resource.link].name
        held.owner.progress(f"connecting {link} to {resource.bridge}")
        try:
            with Netlink() as netlink:
                bridge = find_link(netlink, resource.bridge)
                problem = _problem(resource, bridge)
                if problem is not None or bridge is None:
                    raise OperationError(f"{name}: {problem}")
                there = the_link(netlink, link)
                index, mtu = there.index, resource.mtu or bridge.mtu
                if there.master:  # its VLANs go with the old port
                    set_link(netlink, index, master=0, up=False)
                if resource.vlan is None:
                    set_link(netlink, index, mtu=mtu, master=bridge.index, up=True)
                    return
                # Up only when it has its VLANs: before, its packets would be in the bridge's own.
                set_link(netlink, index, mtu=mtu, master=bridge.index)
                vlan = vlan_of(resource.vlan)
                keeps = bridge.default_vlan in (vlan.untagged, None)
                without = 0 if keeps else bridge.default_vlan or 0
                set_port_vlans(netlink, index, untagged=vlan.untagged, tagged=vlan.tagged, without=without)
                set_link(netlink, index, up=True)
        except OSError as error:
            what = f"{name}: {resource.where}: cannot connect {link} to {resource.bridge}, got {error.strerror}"
            todo = _TODO.get(error.errno or 0, f"check that {resource.bridge} exists")
            raise OperationError(f"{what}; {todo}") from error

    def prove(self, resource: BridgePort, site: Site, owner: Owner) -> None:
        """The link must be a port of the bridge, in its VLANs. Raises `OperationError`."""
        entry = owner.record.entry(resource.link.key)
        with Netlink() as netlink:
            bridge, link = find_link(netlink, resource.bridge), find_link(netlink, entry.data["name"])
        if bridge is None or link is None or link.master != bridge.index:
            what = f"{owner.name}: {entry.data['name']} is not a port of {resource.bridge!r}"
            raise OperationError(f"{what}; another program changed it")
        if resource.vlan is None:
            return
        vlan = vlan_of(resource.vlan)
        wanted = vlan.untagged, frozenset(number for low, high in vlan.tagged for number in range(low, high + 1))
        with Netlink() as netlink:
            found = port_vlans(netlink, link.index)
        if found != wanted:
            what = f"{owner.name}: {entry.data['name']} is not in VLAN {resource.vlan} of {resource.bridge!r}"
            raise OperationError(f"{what}; another program changed it")


def _problem(resource: BridgePort, found: LinkFacts | None) -> Problem | None:
    """The reason against the port: the same for a check before a start and for the start."""
    problem = no_bridge(resource.where, resource.bridge, found)
    if problem is not None or found is None or resource.vlan is None or found.vlan_filtering:
        return problem
    where = beside(resource.where, "vlan")
    if found.default_vlan is None:
        what = f"needs a bridge that filters VLANs, which the kernel of this node cannot ({resource.bridge})"
        todo = "use a kernel with CONFIG_BRIDGE_VLAN_FILTERING, or mode 'openvswitch'"
    else:
        what = f"needs a bridge that filters VLANs, and {resource.bridge} does not"
        todo = f"set it: ip link set {resource.bridge} type bridge vlan_filtering 1"
    return Problem(path=where, what=what, got=repr(resource.vlan), todo=todo)


def no_bridge(path: str, bridge: str, found: LinkFacts | None) -> Problem | None:
    """The problem of a link of that name that is missing or is not a bridge."""
    if found is None:
        todo = f"create it: ip link add {bridge} type bridge; or name another"
        return Problem(path=path, what="does not exist on this node", got=repr(bridge), todo=todo)
    if found.kind != "bridge":
        return Problem(path=path, what="is not a bridge", got=repr(bridge), todo="create the bridge, or name another")
    return None
