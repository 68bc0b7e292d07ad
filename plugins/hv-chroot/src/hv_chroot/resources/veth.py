"""An instance's namespaces that exist before it, and its interfaces: veth pairs with one end in a bridge of the node.

A pair is made, named and marked in the instance's network namespace, and only then its outer end is moved to the node.
A start that is killed before leaves nothing on the node, because the kernel removes both ends with the namespace. A
release removes an interface only if it has the name and the mark.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hvcore.plugin as hv
from hv_chroot.resource import Namespaces, Routes, Veth
from hvcore.plugin import Held, HeldNamespaces, Owner, ResourceKind, Site, Turn

if TYPE_CHECKING:
    from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it has no type information

__all__ = ["NamespacesKind", "RoutesKind", "VethKind"]

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_OURS: Final = "/proc/thread-self/ns/net"


class NamespacesKind(ResourceKind[Namespaces, HeldNamespaces | None], name="namespaces", turn=Turn.WHO):
    """A process holds them until the instance has joined them; it ends with the operation."""

    def placeholder(self, resource: Namespaces, site: Site) -> HeldNamespaces | None:
        """Namespaces held by pid 0, which no process has."""
        if resource.users is None and not resource.network:
            return None
        return HeldNamespaces(pid=0, users=resource.users is not None, network=resource.network)

    def acquire(self, resource: Namespaces, held: Held) -> HeldNamespaces | None:
        """Create the namespaces, in a process that holds them."""
        uids = None if resource.users is None else held[resource.users]
        return held.enter(hv.hold_namespaces(users=uids, network=resource.network))


class VethKind(ResourceKind[Veth, None], name="veth", turn=Turn.NETWORK):
    """The outer end is named after run directory, instance and interface, so no other instance has the same name."""

    def verify(self, resource: Veth, site: Site) -> Iterator[hv.Problem]:
        """The bridge has to exist."""
        bridge = resource.interface.bridge
        try:
            with _netlink() as netlink:
                found = netlink.link_lookup(ifname=bridge)
                kind = netlink.get_links(found[0])[0].get(("linkinfo", "kind")) if found else None
        except ImportError:
            todo = "install hv-chroot with its dependencies"
            yield hv.Problem(path="pyroute2", what="is not installed", todo=todo)
            return
        if kind != "bridge":
            what = "is not a bridge" if found else "does not exist on this node"
            todo = "create the bridge, or name another"
            yield hv.Problem(path=resource.where, what=what, got=repr(bridge), todo=todo)

    def describe(self, resource: Veth, site: Site) -> Iterator[hv.Step]:
        """The interface and its bridge."""
        nic = resource.interface
        addresses = ", ".join(nic.addresses) or "no address"
        yield hv.Step(kind="connect", what=f"{nic.name} ({nic.mac}, {addresses}) to bridge {nic.bridge!r}")

    def entry(self, resource: Veth, site: Site) -> Mapping[str, Any]:
        """The outer end's name of 14 characters, and its mark."""
        run_dir, inner = os.path.realpath(site.host.run_dir), resource.interface.name
        digest = hashlib.sha256(f"{run_dir}\0{site.name}\0{inner}".encode()).hexdigest()
        return {"name": f"hv{digest[:12]}", "owner": f"hvcore {run_dir} {site.name} {inner}"[-255:]}

    def acquire(self, resource: Veth, held: Held) -> None:
        """Make the pair in the held network and attach its outer end to the bridge. Raises `NodeError`."""
        bridge, name = resource.interface.bridge, held.owner.name
        held.owner.progress(f"connecting {resource.interface.name} to {bridge}")
        data = self.entry(resource, held.site)
        outer = os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _inside(_pid(held[resource.inside]), lambda: _make(resource, data, outer))
            with _netlink() as netlink:
                _join(netlink, resource, data["name"])
        except _errors() as error:
            what = f"{name}: cannot create {resource.interface.name}, got {error}"
            raise hv.NodeError(f"{what}; check that {bridge} still exists") from error
        finally:
            os.close(outer)

    def release(self, entry: hv.Entry, owner: Owner) -> None:
        """Remove the pair if it exists and has our mark. Raises `NodeError` when the kernel refuses that."""
        try:
            with _netlink() as netlink:
                for index in netlink.link_lookup(ifname=entry.data["name"]):
                    if netlink.get_links(index)[0].get("ifalias") == entry.data["owner"]:
                        netlink.link("del", index=index)
        except _errors() as error:
            if getattr(error, "code", None) != errno.ENODEV:  # it has ended with its namespace meanwhile
                what = f"{owner.name}: cannot remove interface {entry.data['name']}, got {error}"
                raise hv.NodeError(f"{what}; try again") from error


class RoutesKind(ResourceKind[Routes, None], name="routes", turn=Turn.SOCKET):  # after all interfaces
    """They end with the network namespace."""

    def acquire(self, resource: Routes, held: Held) -> None:
        """Set the default routes inside. Raises `NodeError`."""

        def act() -> None:
            with _netlink() as netlink:
                for gateway in resource.gateways:
                    netlink.route("add", dst="default", gateway=gateway)

        try:
            _inside(_pid(held[resource.inside]), act)
        except _errors() as error:
            what = f"{held.owner.name}: cannot add its default routes, got {error}"
            raise hv.NodeError(f"{what}; correct params.network_gateways") from error


def _pid(inside: HeldNamespaces | None) -> int:
    if inside is None:
        raise hv.NodeError("network namespace: does not exist; report this")
    return inside.pid


def _make(veth: Veth, data: Mapping[str, Any], outer: int) -> None:
    """In the instance's namespace: make both ends of the pair, set up the inner one, move the outer one to the node."""
    interface = veth.interface
    with _netlink() as netlink:
        netlink.link("set", index=_index(netlink, "lo"), state="up")
        peer = {"ifname": interface.name, "address": interface.mac}
        # A bridge uses the lowest MAC address of its ports; this one is never the lowest.
        netlink.link("add", ifname=data["name"], kind="veth", address=f"fe{interface.mac[2:]}", peer=peer)
        end, inner = _index(netlink, data["name"]), _index(netlink, interface.name)
        netlink.link("set", index=end, ifalias=data["owner"])
        for text in interface.addresses:
            address = ipaddress.ip_interface(text)
            netlink.addr("add", index=inner, address=str(address.ip), prefixlen=address.network.prefixlen)
        if veth.mtu is not None:
            netlink.link("set", index=inner, mtu=veth.mtu)
        netlink.link("set", index=inner, state="up")
        netlink.link("set", index=end, net_ns_fd=outer)


def _join(netlink: IPRoute, veth: Veth, name: str) -> None:
    end, bridge = _index(netlink, name), _index(netlink, veth.interface.bridge)
    mtu = veth.mtu or netlink.get_links(bridge)[0].get("mtu")
    netlink.link("set", index=end, mtu=mtu)
    netlink.link("set", index=end, master=bridge, state="up")


def _index(netlink: IPRoute, name: str) -> int:
    found = netlink.link_lookup(ifname=name)
    if not found:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
    return int(found[0])


def _netlink() -> IPRoute:
    from pyroute2 import IPRoute  # noqa: PLC0415 - 158 ms, for instances with interfaces

    return IPRoute()


def _errors() -> tuple[type[Exception], ...]:
    from pyroute2 import NetlinkError  # noqa: PLC0415 - as above

    return (NetlinkError, OSError)


def _inside(pid: int, act: Callable[[], None]) -> None:
    """Call it in the network namespace of that process, in a new thread: only that thread enters the namespace."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - as above

    def enter_and_act() -> None:
        with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
        act()

    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(enter_and_act).result()
