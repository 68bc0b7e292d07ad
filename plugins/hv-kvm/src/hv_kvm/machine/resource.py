"""What a guest in QEMU holds of its node beyond what every driver knows, as values, and the handles of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from hvcore.plugin import Handles, Identity, Resource

__all__ = [
    "AUTHORITIES",
    "GUEST_DIRECTORY",
    "GUEST_USER",
    "HOSTS",
    "HOST_NETWORK",
    "RESOLV_CONF",
    "Bindings",
    "BlockModule",
    "DataFile",
    "GuestDir",
    "GuestDirectory",
    "GuestFile",
    "HostNetwork",
    "Image",
    "KvmOnly",
    "MemoryFile",
    "NotYet",
    "OnlineCpus",
    "Outside",
    "PrivateCopy",
    "SecurityModel",
    "Shown",
    "ShownFile",
    "Tap",
    "TapFds",
]

H = TypeVar("H")

GUEST_USER: Final = Identity(key="uid")
"""Whom QEMU runs as; the security family says which user of the node that is, if it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDir:
    """The guest's own directory as QEMU sees it.

    ``sockets`` is the same directory by a name that is short and has no character that a socket's address cannot hold.
    """

    path: str
    sockets: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDirectory(Resource[GuestDir]):
    """The one directory that QEMU may write to, with its journal of events."""

    def needs(self) -> tuple[Resource[Any], ...]:
        """Whom it belongs to."""
        return (GUEST_USER,)


GUEST_DIRECTORY: Final = GuestDirectory(key="guest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """What rendering needs to know of this node, for one launch. In a plan, descriptors are symbols such as ``{fd:qmp}``.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """An open file that QEMU gets as fdset ``set_id``, by one or more descriptors. ``name`` is the resource's key.

    ``claims`` hold the claim on the disk: they are in the set too, so that QEMU can give it back with the file.
    """

    name: str
    set_id: int
    fds: tuple[str, ...]
    claims: tuple[str, ...] = ()
    block_device: bool = False

    @property
    def path(self) -> str:
        """The name by which QEMU opens it."""
        return f"/dev/fdset/{self.set_id}"

    def as_block_device(self) -> GuestFile:
        """The same as a plan shows it when it is a block device that is written to: with a second descriptor to read."""
        return replace(self, block_device=True, fds=(*self.fds, f"{{fd:{self.name}-reader}}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Resource[GuestFile]):
    """A file or device that is opened for QEMU before it starts, so that the guest's uid needs no right to it.

    ``fdset`` is the number of its set in QEMU, for as long as the guest lives: 0 to 999 belong to the families of this
    driver. ``claim`` makes the instance its only user on the node; ``direct`` opens it past the page cache. ``must_be``
    is ``image`` (a file or a block device), ``block`` or ``sg`` (a SCSI generic device). ``format`` is what has to be
    in it. A file with a ``template`` is copied from that when it is not there.
    """

    path: str
    fdset: int
    write: bool
    claim: bool
    direct: bool = False
    must_be: str = "image"
    format: str = "raw"
    template: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFile(Resource[str]):
    """A file without a name in ``directory``, of ``size_mib``. It is gone with its last user. The handle is its fd."""

    directory: str
    size_mib: int

    def needs(self) -> tuple[Resource[Any], ...]:
        """Whom it belongs to."""
        return (GUEST_USER,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateCopy(Resource[str]):
    """A copy of a file that only QEMU may read: in the guest's directory, 0400, removed once QEMU has read it.

    The key is the copy's path there, and the handle that path as QEMU sees it. Of a password (``password_bytes`` is how
    long it may be) the copy has the first line and nothing after it. An ``optional`` file need not exist.
    """

    path: str
    password_bytes: int | None = None
    optional: bool = False

    def needs(self) -> tuple[Resource[Any], ...]:
        """Where it is put, and whose it is."""
        return (GUEST_USER, GUEST_DIRECTORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A file that QEMU opens by path: the ``path`` that it opens, and the ``source`` on the node."""

    path: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFile(Resource[Shown]):
    """A file of the node that QEMU opens by path, read-only. ``at`` is its path in the sandbox; unset, ``/KEY``.

    An ``optional`` file need not exist.
    """

    path: str
    at: str | None = None
    optional: bool = False

    @property
    def inside(self) -> str:
        """Its path in the sandbox."""
        return self.at or f"/{self.key}"

    def needs(self) -> tuple[Resource[Any], ...]:
        """A file that the guest's user may not read is copied into the guest's directory."""
        return (GUEST_USER, GUEST_DIRECTORY)


RESOLV_CONF: Final = ShownFile(key="resolv.conf", path="/etc/resolv.conf", at="/etc/resolv.conf", optional=True)
HOSTS: Final = ShownFile(key="hosts", path="/etc/hosts", at="/etc/hosts", optional=True)
_AUTHORITIES: Final = "/etc/ssl/certs/ca-certificates.crt"
AUTHORITIES: Final = ShownFile(key="ca-certificates.crt", path=_AUTHORITIES, at=_AUTHORITIES, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNetwork(Resource[None]):
    """The node's network: QEMU itself listens or connects there."""


HOST_NETWORK: Final = HostNetwork(key="network")


@dataclass(frozen=True, slots=True, kw_only=True)
class TapFds:
    """An open tap device: one descriptor for each queue, and as many of vhost-net, or none."""

    fds: tuple[str, ...]
    vhost_fds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap(Resource[TapFds]):
    """A tap device of the node for one NIC. ``vhost`` None lets the node decide."""

    mode: str
    link: str | None
    queues: int
    vhost: bool | None
    vnet_hdr: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityModel(Resource[None]):
    """What the guest's identity asks of its confinement: ``user`` and ``pool`` a uid, ``none`` the caller's."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet(Resource[None]):
    """Something that this release can check and render, and not provide; each keeps the guest from being started."""

    what: str
    got: str
    todo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside(Resource[None]):
    """Something that cannot work inside the sandbox; ``reason`` says why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockModule(Resource[None]):
    """The block driver ``driver`` of ``qemu``, which may be in a module that is not installed."""

    qemu: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile(Resource[None]):
    """A file that ``qemu`` brings itself, at ``path`` below its directory of data."""

    qemu: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmOnly(Resource[None]):
    """Something that software emulation cannot do. ``kvm`` is what the guest asks for: auto, enabled, disabled."""

    qemu: str
    kvm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineCpus(Resource[None]):
    """Processors of the node that the guest's are pinned to."""

    mask: str
