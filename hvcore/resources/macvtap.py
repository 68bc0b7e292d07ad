"""Macvtap interfaces: a guest is a machine of the network at an interface of the node.

The interface stays when its descriptors are closed, so it is in the ledger.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import Any

from hvcore.errors import OperationError, Problem
from hvcore.host.network.links import LinkFacts, add_macvtap, find_link, knows_kind, set_link, the_link
from hvcore.host.network.macvtap_device import open_macvtap, why_no_device_nodes
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.tap_device import VHOST_NET
from hvcore.model.network.node_links import Macvtap, TapFds
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.node_link import beside, make_link, name_and_mark, name_taken, remove_link, root_needed
from hvcore.resources.owner import Owner, Site
from hvcore.resources.tap_queues import fd_symbols, vhost_fds, vhost_missing

__all__ = ["MacvtapKind"]


class MacvtapKind(ResourceKind[Macvtap, TapFds], name="macvtap", turn=Turn.NETWORK):
    """In mode bridge: the guests on one interface reach each other, and not the node."""

    def __init__(self, vhost_net: str = VHOST_NET) -> None:
        self._vhost_net = vhost_net

    def verify(self, resource: Macvtap, site: Site) -> Iterator[Problem]:
        """The lower interface must be able to carry it, and the node must let this process make it and open its device."""
        mode = beside(resource.where, "mode")
        with Netlink() as netlink:
            problem = _problem(resource, netlink)
            if not knows_kind(netlink, "macvtap"):
                yield Problem(
                    path=mode, what="needs macvtap, which the kernel of this node lacks", todo="modprobe macvtap"
                )
        if problem is not None:
            yield problem
        yield from root_needed(mode, "make a macvtap interface", "use mode 'user'")
        if site.host.privileged and (why := why_no_device_nodes()) is not None:
            yield Problem(path=mode, what=f"needs a device node, and none can be made here ({why})", todo=_NODES)
        yield from vhost_missing(mode, resource.vhost, self._vhost_net)
        yield from name_taken(resource.where, *name_and_mark(resource, site))

    def describe(self, resource: Macvtap, site: Site) -> Iterator[Step]:
        """The interface, and that the node and the guest do not reach each other."""
        name, _ = name_and_mark(resource, site)
        yield Step(kind="tap", what=f"make macvtap {name} on {resource.lower} for the NIC {resource.mac}")
        what = (
            f"the node and the guest cannot reach each other at {resource.lower}: macvtap sends packets out of it only"
        )
        yield Step(kind="note", what=what)

    def placeholder(self, resource: Macvtap, site: Site) -> TapFds:
        """Symbols for the descriptors."""
        return fd_symbols(resource, name_and_mark(resource, site)[0])

    def entry(self, resource: Macvtap, site: Site) -> Mapping[str, Any]:
        """Its name and its mark, and its address, by which it is known before it has the mark."""
        name, mark = name_and_mark(resource, site)
        return {"name": name, "owner": mark, "mac": resource.mac.lower()}

    def acquire(self, resource: Macvtap, held: Held) -> TapFds:
        """Make it, open its device, and set it up. Raises `OperationError`."""
        (name, mark), instance = name_and_mark(resource, held.site), held.owner.name
        held.owner.progress(f"making macvtap {name} on {resource.lower}")
        try:
            with Netlink() as netlink:
                problem = _problem(resource, netlink)
                if problem is not None:
                    raise OperationError(f"{instance}: {problem}")
                lower = the_link(netlink, resource.lower)

                def adds() -> None:
                    add_macvtap(netlink, name, lower=lower.index, address=resource.mac, mtu=resource.mtu)

                make_link(name, mark, held.owner, adds)
                index = the_link(netlink, name).index
                set_link(netlink, index, alias=mark)
                fds = open_macvtap(name, queues=resource.queues, vnet_hdr=resource.vnet_hdr)
                fds_held = tuple(map(held.add, fds))
                set_link(netlink, index, up=True)
        except OSError as error:
            what = f"{instance}: {resource.where}: cannot make macvtap {name} on {resource.lower}, got {error.strerror}"
            raise OperationError(f"{what}; {_todo(error.errno, resource, name)}") from error
        for_vhost = tuple(map(held.add, vhost_fds(resource, instance, self._vhost_net)))
        return TapFds(name=name, fds=fds_held, vhost_fds=for_vhost)

    def prove(self, resource: Macvtap, site: Site, owner: Owner) -> None:
        """The interface must be up, on its lower interface. Raises `OperationError`."""
        name, mark = name_and_mark(resource, site)
        with Netlink() as netlink:
            found, lower = find_link(netlink, name), find_link(netlink, resource.lower)
        if found is None or lower is None or not found.up or (found.alias, found.lower) != (mark, lower.index):
            what = f"{owner.name}: macvtap {name} is not up on {resource.lower!r}"
            raise OperationError(f"{what}; another program changed it during the start")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the interface, if it is ours."""
        made_as = ("macvtap", entry.data["mac"])
        remove_link(entry.data["name"], entry.data["owner"], owner, made_as=made_as)


_NODES = "give the container CAP_MKNOD and its devices, or use mode 'bridged'"


def _problem(resource: Macvtap, netlink: Netlink) -> Problem | None:
    """The reason against it: the same for a check before a start and for the start."""
    lower = find_link(netlink, resource.lower)
    master = find_link(netlink, lower.master) if lower is not None and lower.master else None
    found = _against(resource, lower, master)
    if found is None:
        return None
    key, what, todo = found
    got = {"link": resource.lower, "mac": resource.mac, "mtu": resource.mtu}[key]
    return Problem(path=beside(resource.where, key), what=what, got=repr(got), todo=todo)


def _against(  # noqa: PLR0911 - one for each reason
    resource: Macvtap, lower: LinkFacts | None, master: LinkFacts | None
) -> tuple[str, str, str] | None:
    """The key of the NIC that is wrong, what is wrong, and what to do."""
    name = resource.lower
    if lower is None:
        return "link", "does not exist on this node", "name an interface of the node: ip link"
    if not lower.ethernet:
        return "link", "is not an Ethernet interface", "name another interface"
    if master is not None:
        todo = f"set mode = 'bridged' and link = '{master.name}'" if master.kind == "bridge" else f"name {master.name}"
        return "link", f"belongs to {master.name}, which takes its packets", todo
    if not lower.up:
        return "link", "is down", f"set it up: ip link set {name} up"
    if lower.address == resource.mac.lower():
        return "mac", f"is the address of {name} itself", "give the NIC another, or unset it"
    if resource.mtu is not None and resource.mtu > lower.mtu:
        return "mtu", f"is above the MTU of {name}, which is {lower.mtu}", f"set it to at most {lower.mtu}"
    return None


def _todo(number: int | None, resource: Macvtap, name: str) -> str:
    if number == errno.EEXIST:
        return f"see 'ip -d link show {name}'"
    if number == errno.EADDRINUSE:
        return f"another interface on {resource.lower} has the address {resource.mac}: change mac of the NIC"
    if number == errno.EBUSY:
        return f"another program takes the packets of {resource.lower}"
    return "hv verify says what this node lacks"
