"""The resources of the node that only chroot instances hold, as values. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_chroot.families.network import Interface
from hv_chroot.families.root import Bind
from hv_chroot.spec import ChrootSpec, limits_of
from hvcore.plugin import HeldNamespaces, Resource, dataclass

__all__ = [
    "PROCESS",
    "SCRIPT_OUTPUT",
    "LiveBind",
    "Namespaces",
    "Output",
    "Root",
    "Rooted",
    "namespaces_of",
    "resources_of",
]

_GROUP: Final = "cgroup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespaces(Resource[HeldNamespaces | None]):
    """User and network namespaces that exist before the instance; None when it needs neither."""

    users: hv.UidRange | None
    network: bool

    def needs(self) -> tuple[Resource[Any], ...]:
        """The uids of its users."""
        return () if self.users is None else (self.users,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Root(Resource[str]):
    """The instance's root with its overlay and its binds, mounted below the instance's directory."""

    spec: ChrootSpec
    inside: Namespaces

    def needs(self) -> tuple[Resource[Any], ...]:
        """The users that own its files as seen inside, and the right to mount."""
        return (self.inside, hv.Mounts(key="mounts", disk=self.spec.disk, shared=not self.spec.source_is_written))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveBind(Resource[None]):
    """A bind that a running instance has got. Those of its start belong to its `Root`."""

    PREFIX: ClassVar[str] = "bind:"

    bind: Bind

    @classmethod
    def of(cls, bind: Bind) -> LiveBind:
        """That bind, named by its target."""
        return cls(key=f"{cls.PREFIX}{bind.target}", given_by="params.binds", bind=bind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output(Resource[str]):
    """A file for the output of the scripts and of the processes that they leave."""

    def needs(self) -> tuple[Resource[Any], ...]:
        """The right to mount."""
        return (hv.Mounts(key="mounts"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooted(Resource[None]):
    """Every process that has the instance's root as its own root, for instances without a pid namespace."""


SCRIPT_OUTPUT: Final = Output(key="output")
PROCESS: Final = hv.InstanceProcess(key="process")


def namespaces_of(spec: ChrootSpec) -> Namespaces:
    """The namespaces that the instance joins at its launch."""
    users = hv.UidRange(key="users", given_by="params.user_namespace") if spec.users else None
    return Namespaces(key="namespaces", users=users, network=bool(spec.interfaces))


def resources_of(spec: ChrootSpec) -> Iterator[Resource[Any]]:
    """Every resource of the node that the instance holds while it runs."""
    inside = namespaces_of(spec)
    yield inside
    yield hv.ControlGroup(key=_GROUP, given_by="params", limits=limits_of(spec))
    source = spec.disk or spec.directory or ""
    given_by = "params.root_directory" if spec.disk is None else "disks[0].path"
    yield hv.DiskClaim(key="source", given_by=given_by, path=source, write=spec.source_is_written)
    if spec.overlay_directory is not None:
        given_by = "params.overlay_directory"
        yield hv.DiskClaim(key="overlay", given_by=given_by, path=spec.overlay_directory, write=True)
    yield Root(key="root", spec=spec, inside=inside)
    for index, interface in enumerate(spec.interfaces):
        yield from _interface(index, interface, spec, inside)
    if spec.interfaces:
        yield _default_routes(spec, inside)
    yield SCRIPT_OUTPUT
    if not spec.namespaces:
        yield Rooted(key="rooted")
    yield PROCESS


def _interface(index: int, interface: Interface, spec: ChrootSpec, inside: Namespaces) -> Iterator[Resource[Any]]:
    """The interface's MAC address, its pair of links, and what the outer one is connected to."""
    where, mtu = f"nics[{index}]", interface.mtu or spec.mtu
    limits = {"to_guest": interface.to_guest, "from_guest": interface.from_guest}
    to = interface.bridge or None
    switch = hv.nic_switch(
        index,
        interface.mode,
        to=to,
        socket=interface.ovs_socket,
        vlan=interface.vlan,
        from_guest=interface.from_guest,
    )
    yield hv.mac_claim(f"nic{index}.mac", f"{where}.mac", interface.mac)
    veth = hv.Veth(
        key=f"nic{index}.veth",
        given_by=f"{where}.mode",
        inner=interface.name,
        mac=interface.mac,
        addresses=interface.addresses,
        mtu=mtu,
        mtu_of=interface.bridge if interface.mode in ("bridged", "openvswitch") else "",
        switch=switch,
        inside=inside,
    )
    yield veth
    if interface.up is None:
        yield from hv.nic_connection(
            index, interface.mode, veth, to=to, addresses=interface.addresses, vlan=interface.vlan, mtu=mtu, **limits
        )
    yield from hv.nic_scripts(
        index,
        interface.mode,
        veth,
        to=to,
        up=interface.up,
        down=interface.down,
        environment=interface.environment,
    )
    if switch is None or interface.up is not None:  # else the limits are the switch's
        yield from hv.nic_limits(index, veth, interface.mac, **limits)


def _default_routes(spec: ChrootSpec, inside: Namespaces) -> hv.DefaultRoutes:
    """By the gateways; else, for each IP version, by the first interface to which the node routes addresses."""
    by_links: dict[int, str] = {}
    for interface in spec.interfaces:
        for address in interface.addresses if interface.mode == "routed" else ():
            by_links.setdefault(6 if ":" in address else 4, interface.name)
    for gateway in spec.gateways:
        by_links.pop(6 if ":" in gateway else 4, None)
    return hv.DefaultRoutes(
        key="routes",
        given_by="params.network_gateways",
        gateways=spec.gateways,
        inside=inside,
        by_links=tuple((name, version) for version, name in sorted(by_links.items())),
    )
