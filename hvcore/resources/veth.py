"""Veth pairs: one end in the network namespace of an instance, the other on the node. Default routes in that namespace.

A pair is made, named and marked in the instance's network namespace, and only then its outer end is moved to the node.
A start that is killed before leaves nothing on the node, because the kernel removes both ends with the namespace. A
release removes an interface only if it has the name and the mark.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hvcore.errors import NodeError, Problem
from hvcore.host.network.ethtool import complete_checksums
from hvcore.host.network.links import add_address, add_veth, find_link, set_link, the_link
from hvcore.host.network.netlink import Netlink, in_network_of
from hvcore.host.network.routes import add_default_route
from hvcore.model.network.node_links import DefaultRoutes, NodeLink, Veth
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Resource
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.node_link import make_link, name_and_mark, name_taken, release_link, root_needed
from hvcore.resources.owner import Owner, Site

__all__ = ["DefaultRoutesKind", "VethKind"]

_AT_ROUTED_PORT: Final = {4: "0.0.0.0", 6: "fe80::1"}  # noqa: S104 - the node answers for all addresses
_OURS: Final = "/proc/thread-self/ns/net"


class VethKind(ResourceKind[Veth, NodeLink], name="veth", turn=Turn.NETWORK):
    """The outer end is named after run directory, instance and resource, so no other instance has the same name."""

    def verify(self, resource: Veth, site: Site) -> Iterator[Problem]:
        """Only root can make it, and no other link may have its name."""
        yield from root_needed(resource.where, "make network interfaces", "give the instance no NIC")
        yield from name_taken(resource.where, *name_and_mark(resource, site))

    def describe(self, resource: Veth, site: Site) -> Iterator[Step]:
        """The interface with its addresses."""
        addresses = ", ".join(resource.addresses) or "no address"
        what = f"make interface {resource.inner} ({resource.mac}, {addresses})"
        yield Step(kind="link", what=what)

    def placeholder(self, resource: Veth, site: Site) -> NodeLink:
        """The name of the outer end."""
        return NodeLink(name=name_and_mark(resource, site)[0])

    def entry(self, resource: Veth, site: Site) -> Mapping[str, Any]:
        """The outer end's name of 14 characters, and its mark."""
        name, mark = name_and_mark(resource, site)
        return {"name": name, "owner": mark}

    def acquire(self, resource: Veth, held: Held) -> NodeLink:
        """Make the pair. The inner end is up, the outer end is down. Raises `NodeError`."""
        name, mark = name_and_mark(resource, held.site)
        held.owner.progress(f"making {resource.inner}")
        outer = os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            mtu = resource.mtu or _mtu_of(resource.mtu_of)
            with Netlink(pid=_pid(held, resource.inside)) as netlink:
                set_link(netlink, the_link(netlink, "lo").index, up=True)
                # A bridge has the lowest address of its ports. This one is never the lowest.
                address = f"fe{resource.mac[2:]}"
                add_veth(netlink, name, address=address, alias=mark, peer=resource.inner, peer_address=resource.mac)
                inner = the_link(netlink, resource.inner).index
                if resource.switch is not None and not held[resource.switch].in_kernel:
                    in_network_of(_pid(held, resource.inside), lambda: complete_checksums(resource.inner))
                set_link(netlink, inner, mtu=mtu, up=True)
                for text in resource.addresses:
                    # Its services start at once, and can use no IPv6 address that the kernel still asks about.
                    add_address(netlink, inner, text, at_once=True)
                set_link(netlink, the_link(netlink, name).index, mtu=mtu)
                end = the_link(netlink, name).index
                make_link(name, mark, held.owner, lambda: set_link(netlink, end, namespace_fd=outer))
        except OSError as error:
            what = f"{held.owner.name}: cannot create {resource.inner}, got {error.strerror}"
            raise NodeError(f"{what}; correct {resource.where} and the addresses") from error
        finally:
            os.close(outer)
        return NodeLink(name=name)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the pair if it exists and has our mark."""
        release_link(entry, owner)


class DefaultRoutesKind(ResourceKind[DefaultRoutes, None], name="routes", turn=Turn.SOCKET):  # after all interfaces
    """They end with the network namespace."""

    def acquire(self, resource: DefaultRoutes, held: Held) -> None:
        """Set the default routes inside. Raises `NodeError`."""
        try:
            with Netlink(pid=_pid(held, resource.inside)) as netlink:
                for gateway in resource.gateways:
                    add_default_route(netlink, gateway)
                for link, version in resource.by_links:
                    add_default_route(netlink, _AT_ROUTED_PORT[version], index=the_link(netlink, link).index)
        except OSError as error:
            what = f"{held.owner.name}: cannot add its default routes, got {error.strerror}"
            raise NodeError(f"{what}; correct {resource.where}") from error


def _mtu_of(name: str) -> int | None:
    if not name:
        return None
    with Netlink() as netlink:
        found = find_link(netlink, name)
    return None if found is None else found.mtu


def _pid(held: Held, inside: Resource[Any]) -> int:
    """The process that holds the namespaces."""
    namespaces = held[inside]
    if namespaces is None:
        raise NodeError("network namespace: does not exist; report this")
    return int(namespaces.pid)
