"""The resources of the node that only chroot instances hold, as values. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_chroot.families.network import Interface
from hv_chroot.spec import ChrootSpec, limits_of
from hvcore.plugin import HeldNamespaces, Resource

__all__ = [
    "PROCESS",
    "SCRIPT_OUTPUT",
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
        # A disk that the instance writes to must be unused after the release; one that it only reads has other readers.
        alone = self.spec.disk if self.spec.source_is_written else None
        return (self.inside, hv.Mounts(key="mounts", disk=alone))


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
    """The interface's MAC address, its pair of links, and the port of the bridge."""
    where, mtu = f"nics[{index}]", interface.mtu or spec.mtu
    yield hv.mac_claim(f"nic{index}.mac", f"{where}.mac", interface.mac)
    veth = hv.Veth(
        key=f"nic{index}.veth",
        given_by=f"{where}.mode",
        inner=interface.name,
        mac=interface.mac,
        addresses=interface.addresses,
        mtu=mtu,
        mtu_of=interface.bridge if interface.mode == "bridged" else "",
        inside=inside,
    )
    yield veth
    if interface.up is None:
        yield from _connection(index, interface, veth, mtu)
    if interface.environment:
        yield hv.NetworkScripts(
            key=f"nic{index}.scripts",
            given_by="params.network_up_script",
            down_given_by="params.network_down_script",
            bridge_given_by=f"{where}.link",
            link=veth,
            up=interface.up,
            down=interface.down,
            mode=interface.mode,
            bridge=interface.bridge if interface.mode == "bridged" else None,
            environment=interface.environment,
        )
    limited = "to" if interface.to_guest is not None else "from" if interface.from_guest is not None else None
    if limited is not None:
        yield hv.Bandwidth(
            key=f"nic{index}.limits",
            given_by=f"{where}.bandwidth_{limited}_guest",
            link=veth,
            mac=interface.mac,
            to_guest=interface.to_guest,
            from_guest=interface.from_guest,
        )


def _connection(index: int, interface: Interface, veth: hv.Veth, mtu: int | None) -> Iterator[Resource[Any]]:
    """What hvcore itself plugs the node's end into: a bridge, or the node's routes to the addresses."""
    where = f"nics[{index}]"
    if interface.mode == "bridged":
        yield hv.BridgePort(
            key=f"nic{index}.port",
            given_by=f"{where}.link",
            link=veth,
            bridge=interface.bridge,
            vlan=interface.vlan,
            mtu=mtu,
        )
    elif interface.mode == "routed":
        addresses = tuple(address.partition("/")[0] for address in interface.addresses)
        for number, address in enumerate(addresses):
            yield hv.address_claim(f"nic{index}.ip{number}", f"{where}.ip", address)
        yield hv.RoutedPort(
            key=f"nic{index}.port",
            given_by=f"{where}.mode",
            table_given_by=f"{where}.link",
            link=veth,
            addresses=addresses,
            table=interface.bridge or None,
            mtu=mtu,
        )


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
