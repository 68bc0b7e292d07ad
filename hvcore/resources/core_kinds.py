"""The kinds of resources that every driver can use."""

from __future__ import annotations

from typing import Any, Final

from hvcore.resources.bandwidth import BandwidthKind
from hvcore.resources.bridge_port import BridgePortKind
from hvcore.resources.control_group import ControlGroupKind
from hvcore.resources.disks import DiskClaimKind, MountsKind
from hvcore.resources.egress import EgressKind
from hvcore.resources.identity import IdentityKind, UidRangeKind
from hvcore.resources.instance_process import InstanceProcessKind
from hvcore.resources.kind import ResourceKind
from hvcore.resources.kinds import Kinds
from hvcore.resources.macvtap import MacvtapKind
from hvcore.resources.network import InterfaceAddressKind, TcpPortKind
from hvcore.resources.network_scripts import NetworkScriptsKind
from hvcore.resources.node_files import CharacterDeviceKind, LinkKind, UnixSocketKind
from hvcore.resources.output_history import OutputHistoryKind
from hvcore.resources.ovs_port import OvsBridgeKind, OvsPortKind
from hvcore.resources.port_forward import PortForwardKind
from hvcore.resources.program import ProgramKind
from hvcore.resources.routed_port import RoutedPortKind
from hvcore.resources.state_directory import StateDirectoryKind
from hvcore.resources.tap import TapKind
from hvcore.resources.unique_value import UniqueValueKind
from hvcore.resources.user_network import UserNetworkKind
from hvcore.resources.veth import DefaultRoutesKind, VethKind

__all__ = ["CORE_KINDS", "with_kinds"]

_OF_CORE: Final[tuple[ResourceKind[Any, Any], ...]] = (
    IdentityKind(),
    UidRangeKind(),
    ControlGroupKind(),
    DiskClaimKind(),
    MountsKind(),
    LinkKind(),
    CharacterDeviceKind(),
    InterfaceAddressKind(),
    TcpPortKind(),
    UniqueValueKind(),
    PortForwardKind(),
    EgressKind(),
    TapKind(),
    MacvtapKind(),
    VethKind(),
    DefaultRoutesKind(),
    BridgePortKind(),
    RoutedPortKind(),
    NetworkScriptsKind(),
    OvsBridgeKind(),
    OvsPortKind(),
    BandwidthKind(),
    UnixSocketKind(),
    StateDirectoryKind(),
    ProgramKind(),
    UserNetworkKind(),
    OutputHistoryKind(),
    InstanceProcessKind(),
)


def with_kinds(more: list[tuple[str, ResourceKind[Any, Any]]]) -> Kinds:
    """The core's kinds and those of plugins, ``(plugin, kind)``. Raises `DriverLoadError` for two of one name."""
    return Kinds([*(("hvcore", kind) for kind in _OF_CORE), *more])


CORE_KINDS: Final = with_kinds([])
"""The kinds that need no driver."""
