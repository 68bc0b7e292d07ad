"""The resources of a QEMU guest beyond those that every driver has, and the handles of one launch. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, TypeVar

from hv_kvm.machine.cloud_config import SeedContents
from hvcore.plugin import Handles, Identity, Resource, dataclass

__all__ = [
    "AUTHORITIES",
    "GUEST_DIRECTORY",
    "GUEST_USER",
    "HOSTS",
    "HOST_NETWORK",
    "RESOLV_CONF",
    "Backing",
    "Bindings",
    "BlockModule",
    "BuiltInNetwork",
    "DataFile",
    "GuestDir",
    "GuestDirectory",
    "GuestFile",
    "HostNetwork",
    "Image",
    "KvmOnly",
    "MemoryFile",
    "NotYet",
    "NumaNodes",
    "OnlineCpus",
    "Outside",
    "PrivateCopy",
    "SecurityModel",
    "SeedImage",
    "Shown",
    "ShownFile",
    "TemporaryOverlay",
]

H = TypeVar("H")

GUEST_USER: Final = Identity(key="uid")
"""The user that QEMU runs as. Family security names a user of the node, if one is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDir:
    """The guest's own directory as QEMU sees it.

    ``sockets`` is the same directory by a short name without characters that a socket's address cannot hold.
    """

    path: str
    sockets: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestDirectory(Resource[GuestDir]):
    """The one directory that QEMU may write to, with its journal of events."""

    def needs(self) -> tuple[Resource[Any], ...]:
        """Its owner."""
        return (GUEST_USER,)


GUEST_DIRECTORY: Final = GuestDirectory(key="guest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bindings:
    """The values of this node that rendering needs, for one launch. In a plan, descriptors are symbols: ``{fd:qmp}``.

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
        """The same directory, by a name that fits into the address of a socket."""
        return self[GUEST_DIRECTORY].sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFile:
    """An open file that QEMU gets as fdset ``set_id``, by one or more descriptors. ``name`` is the resource's key.

    ``claims`` are the descriptors that hold the claim on the disk. They are in the set too, so that QEMU releases the
    claim together with the file.
    """

    name: str
    set_id: int
    fds: tuple[str, ...]
    claims: tuple[str, ...] = ()
    block_device: bool = False

    @property
    def path(self) -> str:
        """The path by which QEMU opens the file."""
        return f"/dev/fdset/{self.set_id}"

    def as_block_device(self) -> GuestFile:
        """This file as a plan shows a writable block device: with a second descriptor, for reading."""
        return replace(self, block_device=True, fds=(*self.fds, f"{{fd:{self.name}-reader}}"))


_FILE_KINDS: Final = ("image", "block", "sg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """The image under a qcow2 image, which has what that one does not have."""

    path: str
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(Resource[GuestFile]):
    """A file or device that hv opens before QEMU starts, so that the guest's uid needs no access to it.

    ``fdset`` is the number of its fdset in QEMU while the guest runs: 0 to 999, and from 1,000,000 on, are for the families
    of this driver.
    ``claim`` makes the instance its only user on the node; ``direct`` bypasses the page cache. ``must_be`` is ``image``
    (a file or a block device), ``block`` or ``sg`` (a SCSI generic device). ``format`` is the required format of the
    image; ``any_contents`` takes a raw one also when its first bytes are those of another format. A file that does not
    exist is copied from ``template``, if that is given, and one that exists must have the template's size.

    ``backing`` is the file that the header of the image has to name. With ``make``, an image that does not exist is made
    empty on top of that, of ``size_bytes`` or as large as that is.
    """

    path: str
    fdset: int
    write: bool
    claim: bool
    direct: bool = False
    must_be: str = "image"
    format: str = "raw"
    any_contents: bool = False
    template: str | None = None
    backing: Backing | None = None
    make: bool = False
    size_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.must_be not in _FILE_KINDS:
            raise ValueError(f"must_be: must be one of {', '.join(_FILE_KINDS)}, got {self.must_be!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporaryOverlay(Resource[GuestFile]):
    """An empty qcow2 image without a name in ``directory``, on top of ``backing``. It ends with the last process that has it."""

    directory: str
    fdset: int
    backing: Backing
    direct: bool = False
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedImage(Resource[GuestFile]):
    """A seed image for cloud-init with these contents, in memory."""

    fdset: int
    contents: SeedContents


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFile(Resource[str]):
    """An unnamed file in ``directory`` of ``size_mib``, which exists as long as a process has it open. The handle is its fd."""

    directory: str
    size_mib: int

    def needs(self) -> tuple[Resource[Any], ...]:
        """Its owner."""
        return (GUEST_USER,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateCopy(Resource[str]):
    """A copy of a file that only QEMU may read: in the guest's directory, 0400, removed once QEMU has read it.

    The key is the copy's path there, and the handle that path as QEMU sees it. A copy of a password has the first line
    only, of at most ``password_bytes``. An ``optional`` file need not exist.
    """

    path: str
    password_bytes: int | None = None
    optional: bool = False

    def needs(self) -> tuple[Resource[Any], ...]:
        """Its directory and its owner."""
        return (GUEST_USER, GUEST_DIRECTORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A file that QEMU opens by path: the ``path`` that it opens, and the ``source`` on the node."""

    path: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFile(Resource[Shown]):
    """A file of the node that QEMU opens by path, read-only. ``at`` is its path in the sandbox, by default ``/KEY``.

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
    """The node's network, in which QEMU itself listens or connects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltInNetwork(Resource[None]):
    """The network stack in QEMU, slirp. ``instead_of`` is the passt that the node cannot run; empty if slirp was wanted."""

    instead_of: str = ""


HOST_NETWORK: Final = HostNetwork(key="network")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityModel(Resource[None]):
    """What security_model needs from the confinement: ``user`` and ``pool`` another uid, ``none`` the caller's uid."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet(Resource[None]):
    """A feature that this release checks but does not provide. It makes the start fail."""

    what: str
    got: str
    todo: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside(Resource[None]):
    """A feature that cannot work inside the sandbox, for the given ``reason``."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockModule(Resource[None]):
    """The block driver ``driver`` of ``qemu``, which may be in a module that is not installed."""

    qemu: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile(Resource[None]):
    """A file that is part of ``qemu``, at ``path`` below its data directory."""

    qemu: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmOnly(Resource[None]):
    """A feature that needs KVM. ``kvm`` is the guest's kvm_flag: auto, enabled or disabled."""

    qemu: str
    kvm: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineCpus(Resource[None]):
    """The CPUs of the node that the guest is pinned to. ``threads`` are the only ones that it is for; empty: vCPUs, or all."""

    mask: str
    threads: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNodes(Resource[None]):
    """The NUMA nodes of the node that the guest's memory comes from, as numbers and ranges."""

    nodes: str
