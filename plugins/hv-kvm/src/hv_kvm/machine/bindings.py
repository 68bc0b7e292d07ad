"""Values that exist on this node, for one launch: descriptors, places inside the sandbox, the accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Bindings", "GuestFile", "Tap"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """An open file handed to QEMU as fdset ``set_id``, by one or more descriptors."""

    set_id: int
    fds: tuple[str, ...]
    block_device: bool = False

    @property
    def path(self) -> str:
        """The name by which QEMU opens it."""
        return f"/dev/fdset/{self.set_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """An open tap device, one descriptor for each queue, and as many of vhost-net, or none."""

    fds: tuple[str, ...]
    vhost_fds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """What rendering needs to know of this node. In a plan, descriptors are symbols such as ``{fd:qmp}``.

    ``guest_dir`` is the instance's own directory as QEMU sees it, and ``socket_dir`` the same by a name that is short
    and has nothing in it that an address of a socket could not hold. By the names that the devices gave them:
    ``sockets`` are listening sockets, ``companions`` our ends of the pairs to programs beside QEMU, ``files`` open
    files, ``temporary`` descriptors of files without a name, and ``shown`` paths as QEMU sees them. ``addresses`` are
    those of network interfaces and ``ports`` those that were chosen, by the names in the spec; ``taps`` are by the id
    of the NIC.
    """

    guest_dir: str
    socket_dir: str
    accel: str
    accel_why: str = ""
    confined: bool = True
    sockets: Mapping[str, str] = field(default_factory=dict)
    companions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, GuestFile] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)
    taps: Mapping[str, Tap] = field(default_factory=dict)
    temporary: Mapping[str, str] = field(default_factory=dict)
