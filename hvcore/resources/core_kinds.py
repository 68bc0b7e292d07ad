"""The kinds of resources that every driver can use."""

from __future__ import annotations

from typing import Any, Final

from hvcore.resources.character_device import CharacterDeviceKind
from hvcore.resources.control_group import ControlGroupKind
from hvcore.resources.disk_claim import DiskClaimKind
from hvcore.resources.identity import IdentityKind, UidRangeKind
from hvcore.resources.interface_address import InterfaceAddressKind
from hvcore.resources.kind import ResourceKind
from hvcore.resources.kinds import Kinds
from hvcore.resources.link import LinkKind
from hvcore.resources.main_process import ProcessKind
from hvcore.resources.mounts import MountsKind
from hvcore.resources.program import ProgramKind
from hvcore.resources.state_directory import StateDirectoryKind
from hvcore.resources.tcp_port import TcpPortKind
from hvcore.resources.unique_value import UniqueValueKind
from hvcore.resources.unix_socket import UnixSocketKind

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
    UnixSocketKind(),
    StateDirectoryKind(),
    ProgramKind(),
    ProcessKind(),
)


def with_kinds(more: list[tuple[str, ResourceKind[Any, Any]]]) -> Kinds:
    """The core's kinds and those of plugins, ``(plugin, kind)``. Raises `DriverLoadError` when two clash."""
    return Kinds([*(("hvcore", kind) for kind in _OF_CORE), *more])


CORE_KINDS: Final = with_kinds([])
"""Without those of any driver: for what can be done without loading one."""
