"""Ports of Open vSwitch: a link is connected to a bridge, with its VLANs and its limits.

The database keeps a port after its link is gone, also over a boot, and takes the next link of that name. So a port is in the
ledger, has the mark of its owner, and a port that an earlier boot left is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from hvcore.errors import OperationError, Problem
from hvcore.host.launching.launch import reap, run_tool
from hvcore.host.network.link_names import link_mark
from hvcore.host.network.links import LinkFacts, find_link, set_link, the_link
from hvcore.host.network.netlink import Netlink
from hvcore.host.network.ovs_vsctl import OVS_START, OvsError, Run, ask, dead_switch, run_here
from hvcore.host.network.traffic_control import has_filter_of_received
from hvcore.host.processes.launched import launch_files
from hvcore.model.network.node_links import OvsPort
from hvcore.model.network.ovs_bridge import (
    OvsBridge,
    OvsBridgeFacts,
    OvsPortFacts,
    bridges_in,
    limits_in,
    port_in,
    to_add_port,
    to_delete_limits,
    to_delete_port,
    to_find_bridge,
    to_find_limits,
    to_find_port,
)
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.params.network_types import vlan_of
from hvcore.resources.bandwidth import shown_limits
from hvcore.resources.held import Held
from hvcore.resources.instance_process import end_members
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.node_link import beside, name_of_link
from hvcore.resources.owner import Owner, Site

__all__ = ["OvsBridgeKind", "OvsPortKind"]

_ASK_S: Final = 10.0
_UNKNOWN: Final = 255


class OvsBridgeKind(ResourceKind[OvsBridge, OvsBridgeFacts], name="ovs-bridge", turn=Turn.NETWORK):
    """The bridge is read and not reserved. It is read before the link is made, because the link depends on it."""

    def verify(self, resource: OvsBridge, site: Site) -> Iterator[Problem]:
        """Open vSwitch must be installed and run, and the bridge must exist and be able to do what its port needs."""
        found = _look_up(resource)
        if isinstance(found, Problem):
            yield found
        elif (why := dead_switch(resource.socket)) is not None:
            yield Problem(path=beside(resource.where, "mode"), what=f"needs Open vSwitch, and {why}", todo=OVS_START)

    def describe(self, resource: OvsBridge, site: Site) -> Iterator[Step]:
        """A note if the bridge makes the guest slower."""
        found = None if site.pure else _look_up(resource)
        if isinstance(found, OvsBridgeFacts) and not found.in_kernel:
            what = (
                f"bridge {resource.name!r} is not in the kernel: the guest completes checksums itself, which is slower"
            )
            yield Step(kind="note", what=what)

    def placeholder(self, resource: OvsBridge, site: Site) -> OvsBridgeFacts:
        """A bridge of the kernel."""
        return OvsBridgeFacts(name=resource.name, in_kernel=True)

    def acquire(self, resource: OvsBridge, held: Held) -> OvsBridgeFacts:
        """What the bridge is. Raises `OperationError`."""
        found = _look_up(resource)
        if isinstance(found, Problem):
            raise OperationError(f"{held.owner.name}: {found}")
        return found


class OvsPortKind(ResourceKind[OvsPort, None], name="ovs-port", turn=Turn.NETWORK):
    """Added after the link is made, and deleted after the instance's processes have ended."""

    def verify(self, resource: OvsPort, site: Site) -> Iterator[Problem]:
        """No port that hvcore did not make may have the name."""
        name, mark = name_of_link(resource.link, site), _mark(resource, site)
        with suppress(OvsError):  # the kind of bridges reports that
            found = _port(run_here, resource.bridge.socket, name)
            if found is not None and found.mark != mark:
                yield Problem(path=resource.where, what=_taken(name), got=repr(found.mark), todo=_to_remove(name))

    def describe(self, resource: OvsPort, site: Site) -> Iterator[Step]:
        """The bridge, the VLANs and the limits."""
        vlan = "all VLANs" if resource.vlan is None else f"VLAN {resource.vlan}"
        limits = shown_limits(resource.to_guest, resource.from_guest)
        what = f"{resource.link.key} to bridge {resource.bridge.name!r} of Open vSwitch, {vlan}"
        what += f", at most {limits}" if limits else ""
        yield Step(kind="connect", what=what)

    def entry(self, resource: OvsPort, site: Site) -> Mapping[str, Any]:
        """Where the port is, and its mark."""
        return {
            "port": name_of_link(resource.link, site),
            "bridge": resource.bridge.name,
            "socket": resource.bridge.socket,
            "mark": _mark(resource, site),
        }

    def acquire(self, resource: OvsPort, held: Held) -> None:
        """Add the port, then set the link up. Raises `OperationError`."""
        owner, name, bridge = held.owner, held[resource.link].name, resource.bridge
        owner.progress(f"connecting {name} to {bridge.name}")
        mark, run = _mark(resource, held.site), _tool(owner, resource.key)
        try:
            with Netlink() as netlink:
                index = the_link(netlink, name).index
                there = find_link(netlink, bridge.name)
                set_link(netlink, index, mtu=resource.mtu or (None if there is None else there.mtu))
                found = _port(run, bridge.socket, name)
                if found is not None and found.mark != mark:
                    what = f"{resource.where}: {_taken(name)}, got {found.mark!r}"
                    raise OperationError(f"{owner.name}: {what}; {_to_remove(name)}")
                vlan = None if resource.vlan is None else vlan_of(resource.vlan)
                words = to_add_port(
                    bridge.name,
                    name,
                    mark,
                    mac=resource.mac,
                    vlan=vlan,
                    to_guest=resource.to_guest,
                    from_guest=resource.from_guest,
                    replace=found is not None,
                )
                owner.note(resource.key, added=True)  # else a release does not need Open vSwitch
                ask(run, bridge.socket, *words, deadline_s=min(_ASK_S, owner.deadline.left()), wait=True)
                set_link(netlink, index, up=True)
        except OvsError as error:
            raise OperationError(f"{owner.name}: {resource.where}: {error}") from error
        except OSError as error:
            what = f"{owner.name}: {resource.where}: cannot set up {name}, got {error.strerror}"
            raise OperationError(f"{what}; correct mtu of the NIC") from error

    def prove(self, resource: OvsPort, site: Site, owner: Owner) -> None:
        """The switch must use the port: ovs-vsctl ends with 0 if it does not. Raises `OperationError`."""
        entry = owner.record.entry(resource.key)
        name = entry.data["port"]
        try:
            found = _port(run_here, resource.bridge.socket, name)
        except OvsError as error:
            raise OperationError(f"{owner.name}: {resource.where}: {error}") from error
        if found is None or found.mark != entry.data["mark"]:
            what = f"{owner.name}: {name} is not a port of {resource.bridge.name!r}"
            raise OperationError(f"{what}; another program changed it during the start")
        if resource.from_guest is not None and not _is_policed(name):
            what = f"{owner.name}: {resource.where}: Open vSwitch does not limit what {name} receives"
            raise OperationError(f"{what}; the kernel needs act_police and cls_matchall: unset bandwidth_from_guest")
        if not found.in_use:
            what = f"{owner.name}: {resource.where}: Open vSwitch cannot use {name}"
            raise OperationError(f"{what}, got {found.error!r}; see the log of ovs-vswitchd")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Delete the port, if it has our mark. Raises `OvsError` while Open vSwitch does not answer."""
        if not entry.data.get("added"):
            return
        end_members(owner.name, owner.dir, entry.key)  # an ovs-vsctl whose caller was killed would add it later
        name, socket, run = entry.data["port"], entry.data["socket"], _tool(owner, entry.key)
        mark = entry.data["mark"]
        try:
            found = _port(run, socket, name)
            if found is not None and found.mark == mark:
                ask(run, socket, *to_delete_port(name), deadline_s=_ASK_S)
            limits = limits_in(ask(run, socket, *to_find_limits(mark), deadline_s=_ASK_S))
            if limits:
                ask(run, socket, *to_delete_limits(limits), deadline_s=_ASK_S)
        except OvsError as error:
            raise OvsError(f"{error.what}, so port {name} of {entry.data['bridge']} is left", error.todo) from error


def _look_up(resource: OvsBridge) -> OvsBridgeFacts | Problem:
    """The bridge, or the reason against it: the same for a check before a start and for the start."""
    try:
        output = ask(run_here, resource.socket, *to_find_bridge(resource.name), deadline_s=_ASK_S)
        found = bridges_in(output)
    except OvsError as error:
        return Problem(
            path=beside(resource.where, "mode"), what=f"needs Open vSwitch, which {error.what}", todo=error.todo
        )
    if found is None:
        with Netlink() as netlink:
            return _no_bridge(resource, find_link(netlink, resource.name))
    if found.vlan is not None and resource.vlan is not None:
        what = f"has no effect, because {resource.name} is a bridge for VLAN {found.vlan} only"
        path = beside(resource.where, "vlan")
        return Problem(path=path, what=what, got=repr(resource.vlan), todo="unset it, or name another bridge")
    if not found.in_kernel and resource.from_guest is not None:
        what = f"cannot be enforced on bridge {resource.name}, which is not in the kernel"
        path = beside(resource.where, "bandwidth_from_guest")
        todo = "unset it, or use a bridge with datapath_type=system"
        return Problem(path=path, what=what, got=repr(resource.from_guest), todo=todo)
    return found


def _no_bridge(resource: OvsBridge, link: LinkFacts | None) -> Problem:
    if link is not None and link.kind == "bridge":
        what, todo = "is a bridge of the kernel, not of Open vSwitch", "set mode = 'bridged'"
    else:
        what, todo = "is not a bridge of Open vSwitch", f"create it: ovs-vsctl add-br {resource.name}; or name another"
    return Problem(path=resource.where, what=what, got=repr(resource.name), todo=todo)


def _is_policed(name: str) -> bool:
    """Whether the switch has set its rule for what the link receives."""
    with Netlink() as netlink:
        link = find_link(netlink, name)
        return link is not None and has_filter_of_received(netlink, link.index)


def _port(run: Run, socket: str, name: str) -> OvsPortFacts | None:
    return port_in(ask(run, socket, *to_find_port(name), deadline_s=_ASK_S))


def _tool(owner: Owner, key: str) -> Run:
    """Runs ovs-vsctl so that the next operation can end it, if this one is killed."""
    life, status = launch_files(owner.dir, key)

    def run(argv: tuple[str, ...], deadline_s: float) -> tuple[int | None, str]:
        ended, output = run_tool(argv, life=life, status=status, deadline_s=deadline_s)
        if ended is None:
            end_members(owner.name, owner.dir, key)
        reap()
        if ended is None or ended.signal is not None:
            return None if ended is None else -(ended.signal or 0), output
        return (_UNKNOWN if ended.code is None else ended.code), output

    return run


def _mark(resource: OvsPort, site: Site) -> str:
    return link_mark(site.host.run_dir, site.name, resource.key)


def _taken(name: str) -> str:
    return f"needs the port name {name}, and another port of Open vSwitch has it"


def _to_remove(name: str) -> str:
    return f"remove it: ovs-vsctl del-port {name}"
