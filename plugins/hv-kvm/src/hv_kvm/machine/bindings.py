"""Values that exist on this node, for one launch: the handles of what the guest holds, and the accelerator. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from hv_kvm.machine.resource import GUEST_DIRECTORY
from hvcore.plugin import Handles, Resource

__all__ = ["Bindings"]

H = TypeVar("H")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """What rendering needs to know of this node. In a plan, descriptors are symbols such as ``{fd:qmp}``.

    ``bindings[resource]`` is the handle of a resource, typed.
    """

    handles: Handles
    accel: str
    accel_why: str = ""
    confined: bool = True

    def __getitem__(self, resource: Resource[H]) -> H:
        return self.handles[resource]

    @property
    def guest_dir(self) -> str:
        """The guest's own directory as QEMU sees it."""
        return self[GUEST_DIRECTORY].path

    @property
    def socket_dir(self) -> str:
        """The same directory by a name that fits into the address of a socket."""
        return self[GUEST_DIRECTORY].sockets
