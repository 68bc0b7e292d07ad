"""An instance's own interfaces: pairs of virtual Ethernet, one end inside, the other in a bridge of the node.

A pair is born in the instance's network namespace, named and marked there, and only then its outer end is moved to the
node: whoever is killed before leaves nothing on the node, and the kernel removes both ends with the namespace. What is
released by name has to bear the owner's mark too.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import ipaddress
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import hvcore.plugin as hv
from hv_chroot.families.network import Interface
from hv_chroot.spec import ChrootSpec

if TYPE_CHECKING:
    from pyroute2 import IPRoute  # type: ignore[import-untyped]  # it has no type information

__all__ = ["VETH", "bridge_problems", "connect", "intended", "release_veth"]

VETH: Final = "veth"
"""Kind of a ledger entry: the outer end of a pair, ``data["name"]``, with the mark ``data["owner"]``."""

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_OURS: Final = "/proc/thread-self/ns/net"


def intended(spec: ChrootSpec, job: hv.Job) -> tuple[hv.Entry, ...]:
    """The ledger entries of its interfaces: names of 14 characters that no other instance on this node comes to."""
    run_dir = os.path.realpath(job.host.run_dir)
    return tuple(
        hv.Entry(
            kind=VETH,
            data={
                "name": "hv" + hashlib.sha256(f"{run_dir}\0{spec.name}\0{interface.name}".encode()).hexdigest()[:12],
                "owner": f"hvcore {run_dir} {spec.name} {interface.name}"[-255:],
            },
        )
        for interface in spec.interfaces
    )


def bridge_problems(spec: ChrootSpec) -> Iterator[hv.Problem]:
    """Interfaces whose bridge this node does not have."""
    if not spec.interfaces:
        return
    try:
        with _netlink() as netlink:
            kinds = {link.get("ifname"): link.get(("linkinfo", "kind")) for link in netlink.get_links()}
    except ImportError:
        yield hv.Problem(path="pyroute2", what="is not installed", todo="install hv-chroot with its dependencies")
        return
    for index, interface in enumerate(spec.interfaces):
        if kinds.get(interface.bridge) != "bridge":
            what = "is no bridge" if interface.bridge in kinds else "does not exist on this node"
            todo = "make the bridge, or name another"
            yield hv.Problem(path=f"nics[{index}].link", what=what, got=repr(interface.bridge), todo=todo)


def connect(spec: ChrootSpec, job: hv.Job, held: hv.Held | None) -> None:
    """Make the interfaces in the held network and join them to their bridges. The ledger has to have them.

    Raises `NodeError` with what the kernel says.
    """
    if held is None or not spec.interfaces:
        return
    job.progress(f"connecting it to {', '.join(dict.fromkeys(one.bridge for one in spec.interfaces))}")
    names = [entry.data for entry in job.record.ledger if entry.kind == VETH]
    outer = os.open(_OURS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _inside(held.pid, lambda: _make(spec, names, outer))
        with _netlink() as netlink:
            for interface, data in zip(spec.interfaces, names, strict=True):
                _join(netlink, spec, interface, data["name"])
    except _errors() as error:
        what = f"{job.name}: its interfaces cannot be made, got {error}"
        raise hv.NodeError(f"{what}; see whether {spec.interfaces[0].bridge} is still there") from error
    finally:
        os.close(outer)


def release_veth(entry: hv.Entry, job: hv.Job) -> None:
    """Remove the pair, if it is there and bears our mark. Raises `NodeError` when the kernel does not let us."""
    try:
        with _netlink() as netlink:
            for index in netlink.link_lookup(ifname=entry.data["name"]):
                if netlink.get_links(index)[0].get("ifalias") == entry.data["owner"]:
                    netlink.link("del", index=index)
    except _errors() as error:
        if getattr(error, "code", None) != errno.ENODEV:  # it went meanwhile, with its namespace
            what = f"{job.name}: interface {entry.data['name']} cannot be removed, got {error}"
            raise hv.NodeError(f"{what}; try again") from error


def _make(spec: ChrootSpec, names: list[dict[str, Any]], outer: int) -> None:
    """In the instance's namespace: both ends of each pair, the inner one ready for use, the outer one sent away."""
    with _netlink() as netlink:
        netlink.link("set", index=_index(netlink, "lo"), state="up")
        for interface, data in zip(spec.interfaces, names, strict=True):
            peer = {"ifname": interface.name, "address": interface.mac}
            # The bridge takes the lowest address of its ports for its own: this one is never it.
            netlink.link("add", ifname=data["name"], kind="veth", address=f"fe{interface.mac[2:]}", peer=peer)
            end, inner = _index(netlink, data["name"]), _index(netlink, interface.name)
            netlink.link("set", index=end, ifalias=data["owner"])
            for text in interface.addresses:
                address = ipaddress.ip_interface(text)
                netlink.addr("add", index=inner, address=str(address.ip), prefixlen=address.network.prefixlen)
            if spec.mtu is not None:
                netlink.link("set", index=inner, mtu=spec.mtu)
            netlink.link("set", index=inner, state="up")
            netlink.link("set", index=end, net_ns_fd=outer)
        for gateway in spec.gateways:
            netlink.route("add", dst="default", gateway=gateway)


def _join(netlink: IPRoute, spec: ChrootSpec, interface: Interface, name: str) -> None:
    end, bridge = _index(netlink, name), _index(netlink, interface.bridge)
    mtu = spec.mtu or netlink.get_links(bridge)[0].get("mtu")
    netlink.link("set", index=end, mtu=mtu)
    netlink.link("set", index=end, master=bridge, state="up")


def _index(netlink: IPRoute, name: str) -> int:
    found = netlink.link_lookup(ifname=name)
    if not found:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
    return int(found[0])


def _netlink() -> IPRoute:
    from pyroute2 import IPRoute  # noqa: PLC0415 - 158 ms, for instances with interfaces of their own

    return IPRoute()


def _errors() -> tuple[type[Exception], ...]:
    from pyroute2 import NetlinkError  # noqa: PLC0415 - as above

    return (NetlinkError, OSError)


def _inside(pid: int, act: Callable[[], None]) -> None:
    """Do it in the network namespace of that process: in a thread of its own, which is in it and ends with it."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "cannot enter its network namespace")
            finally:
                os.close(namespace)
            act()
        except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
            raised.append(error)

    thread = threading.Thread(target=run, name="network of an instance")
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
