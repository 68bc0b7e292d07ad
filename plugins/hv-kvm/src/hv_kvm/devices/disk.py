"""Disks: images and block devices, which QEMU gets as open descriptors, and network disks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import Gluster, Rbd, descriptors, file_props, network_props, parse_uri
from hv_kvm.devices.shared.buses import SCSI_DISKS, SCSI_TARGETS, boot_index_of, cdroms_on, disk_bus, scsi_place
from hv_kvm.devices.shared.layers import base_nodes, base_problems, bases, fdset_of
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import HOST_NETWORK, Backing, Bindings, BlockModule, Image, Outside, TemporaryOverlay
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Disk", "assess", "check", "plan", "render", "verify"]

_NEVER: Final = {
    "scsi": "is no longer available on a PC; for a disk on the SCSI controller use 'scsi-hd'",
    "sd": "is an SD card, for which a PC has no slot",
    "mtd": "is flash memory of embedded boards, which a PC does not have",
    "pflash": "is the flash memory of the firmware, not a disk; see uefi_vars_path",
}

PARAMS: Final = hv.ParamGroup(
    "disk",
    hv.Param(
        "disk_type",
        hv.one_of(
            {
                "paravirtual": "virtio-blk. Fast. The guest needs a virtio driver.",
                "ide": "IDE, or SATA on a q35 machine. Slow, for at most 4 disks, and works in every guest.",
                "scsi-hd": "SCSI disks on the controller of scsi_controller_type.",
                "scsi-cd": "SCSI CD-ROM drives, which are read-only.",
                "scsi-block": "SCSI disks of the node. The guest's SCSI commands go to the disk (/dev/sda).",
                "scsi-generic": "Any SCSI devices of the node. The guest's SCSI commands go to the device (/dev/sg0).",
            },
            refused=_NEVER,
        ),
        default="paravirtual",
        help="The kind of disk that the guest sees.",
        example="scsi-hd",
    ),
    hv.Param(
        "disk_cache",
        hv.one_of(
            {
                "default": "The same as writeback.",
                "none": "Without the node's page cache (O_DIRECT). Needed for disk_aio native.",
                "writeback": "With the node's page cache. Data is safe when the guest has flushed its disk.",
                "writethrough": "With the node's page cache. Data is safe when a write has finished, which is slow.",
            }
        ),
        default="default",
        help="How the node caches the guest's disks.",
        default_means="the same as writeback",
        example="none",
    ),
    hv.Param(
        "disk_aio",
        hv.one_of(
            {
                "threads": "A pool of threads in QEMU.",
                "native": "Linux AIO. Needs disk_cache none.",
                "io_uring": "io_uring of the Linux kernel.",
            }
        ),
        default="threads",
        help="How QEMU reads and writes disks of the node.",
        example="io_uring",
    ),
    hv.Param(
        "disk_discard",
        hv.one_of(
            {
                "ignore": "The blocks stay allocated on the node.",
                "unmap": "The node frees the blocks, so that an image file shrinks.",
            }
        ),
        default="ignore",
        help="What happens to blocks that the guest discards (TRIM).",
        example="unmap",
    ),
    hv.Param(
        "disk_header_check",
        hv.boolean(),
        default=True,
        help="Whether a raw disk is refused that begins with the header of another image format or of a compressed file. Set false "
        "for a guest that itself keeps such an image at the start of its disk.",
        changes="launch",
        example=False,
    ),
    hv.Param(
        "disk_temporary_path",
        hv.directory(),
        default="/var/tmp",  # noqa: S108 - the files in it have no names
        help="The directory for what guests write to temporary disks. The files there have no names, and end with the guest.",
        changes="launch",
        example="/srv/scratch",
    ),
    help="The guest's disks. A table under [[disks]] can have another cache, aio and discard.",
)
_URIS: Final = "the forms are rbd:POOL/IMAGE and gluster://HOST/VOLUME/PATH"
_WHY_FORMAT: Final = "the format is given, because a guest could write the header of another format into its disk"
_MODELS: Final = {"paravirtual": "virtio-blk-pci", "ide": "ide-hd", **{name: name for name in SCSI_DISKS}}
_IDE_PLACES: Final = 4  # two on each of the two channels of a pc; a q35 has two more, for CD-ROM drives


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk(PciDevice):
    """A disk: virtio-blk in its own PCI slot, a disk of the IDE controller, or a target of the SCSI controller.

    ``source`` is set for a network disk only. ``temporary`` is the directory for what is written to a temporary disk.
    """

    bus: str
    model: str
    index: int
    path: str
    format: str
    read_only: bool
    cache: str
    aio: str
    discard: str
    boot_index: int | None
    iothread: str | None = None
    header_check: bool = True
    source: Rbd | Gluster | None = None
    base: tuple[str, ...] = ()
    base_format: str = "qcow2"
    size_mib: int | None = None
    temporary: str | None = None

    @property
    def id(self) -> str:
        """The id of the disk's block node; that of its device ends with ``-dev``."""
        return f"disk{self.index}"

    @property
    def label(self) -> str:
        """The same."""
        return self.id

    def fixed(self, spec: KvmSpec) -> str | None:
        """A SCSI disk can be plugged on every machine, a virtio disk on one with PCI slots for it, an IDE disk on none."""
        if self.bus == "ide":
            return "is an IDE disk, which cannot be plugged while the guest runs; use a paravirtual or SCSI disk"
        return self.without_hotplug(spec) if self.needs_slot else None

    @property
    def needs_slot(self) -> bool:
        """Whether the disk itself is a PCI device: only a virtio disk is."""
        return self.bus == "virtio"

    @property
    def files(self) -> tuple[Backing, ...]:
        """The files of a local disk: that at its path, then its bases."""
        *upper, last = (self.path, *self.base)
        last_format = self.base_format if self.base else self.format
        return (*(Backing(path=path, format="qcow2") for path in upper), Backing(path=last, format=last_format))

    @property
    def upper(self) -> Image | TemporaryOverlay:
        """What the guest writes to: the image or device at the path, which only this instance may use, or a temporary file."""
        size_bytes = None if self.size_mib is None else self.size_mib << 20
        direct, fdset = self.cache == "none", fdset_of(self.index, 0)
        if self.temporary is not None:
            return TemporaryOverlay(
                key=self.id,
                given_by=self.given_by,
                directory=self.temporary,
                fdset=fdset,
                backing=self.files[0],
                direct=direct,
                size_bytes=size_bytes,
            )
        return Image(
            key=self.id,
            given_by=self.given_by,
            path=self.path,
            fdset=fdset,
            write=not self.read_only,
            claim=True,
            direct=direct,
            must_be={"scsi-block": "block", "scsi-generic": "sg"}.get(self.model, "image"),
            format=self.format,
            any_contents=not self.header_check,
            backing=self.files[1] if self.base else None,
            make=bool(self.base) and not self.read_only,
            size_bytes=size_bytes,
        )

    @property
    def bases(self) -> tuple[Image, ...]:
        """The images that are only read, from the next one to the last one."""
        files = self.files if self.temporary is not None else self.files[1:]
        return bases(
            self.index,
            files,
            direct=self.cache == "none",
            any_contents=not self.header_check,
            given_by=f"disks[{self.index}].{'base' if self.base else 'path'}",
        )

    @property
    def given_by(self) -> str:
        """The field of the instance that names the disk."""
        return f"disks[{self.index}].path"

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The image; for a network disk a claim on it, the network, the block driver, and a place outside the sandbox."""
        if self.source is None:
            yield from (*self.bases, self.upper)
            return
        yield hv.DiskClaim(key=self.id, given_by=self.given_by, path=self.source.canonical, write=not self.read_only)
        yield HOST_NETWORK
        yield BlockModule(key=f"{self.id}.module", given_by=self.given_by, qemu=spec.qemu, driver=self.source.driver)
        # The libraries of Ceph and Gluster read files of the node, and only they know which.
        files = "configuration and keys" if isinstance(self.source, Rbd) else "certificates, volume files and sockets"
        reason = f"the {self.source.driver} library needs the node's {files}"
        yield Outside(key=f"{self.id}.outside", given_by=self.given_by, reason=reason)


DEVICES: Final = (Disk,)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """All disks fit on the bus, no disk is used twice, and QEMU accepts the combination of values."""
    kind = params["disk_type"]
    if kind != "paravirtual":  # virtio disks are counted with the other PCI devices
        yield from _places(instance, params)
    if not instance.disks or any(disk.cache is None and disk.aio is None for disk in instance.disks):
        yield from _native_needs_direct(params["disk_aio"], params["disk_cache"], "params.disk_cache")
    names: set[str] = set()
    for index, disk in enumerate(instance.disks):
        place, name = f"disks[{index}]", disk.path
        if not disk.path.startswith("/"):
            try:
                source = parse_uri(disk.path)
            except ValueError as error:
                yield hv.Problem(path=f"{place}.path", what=str(error), got=repr(disk.path)[:80], todo=_URIS)
            else:
                name = source.canonical
                yield from _of_network(disk, source, place, kind)
        if name in names:
            what = "is already another disk of this instance"
            yield hv.Problem(path=f"{place}.path", what=what, got=repr(disk.path)[:80])
        names.add(name)
        if disk.cache is not None or disk.aio is not None:
            aio, cache = disk.aio or params["disk_aio"], disk.cache or params["disk_cache"]
            yield from _native_needs_direct(aio, cache, f"{place}.cache")
        yield from _of_type(disk, place, kind)
        yield from base_problems(disk, place, kind, network=not disk.path.startswith("/"))


def _native_needs_direct(aio: str, cache: str, path: str) -> Iterator[hv.Problem]:
    if aio == "native" and cache != "none":
        what = "aio 'native' needs cache 'none'"
        yield hv.Problem(path=path, what=what, got=repr(cache), todo=f'set {path.rpartition(".")[2]} = "none"')


def _places(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    kind, bus = params["disk_type"], disk_bus(params)
    places = _IDE_PLACES if bus == "ide" else SCSI_TARGETS[params["scsi_controller_type"]]
    cdroms = cdroms_on(params, bus)
    if len(instance.disks) > places - cdroms:
        where = "IDE" if bus == "ide" else f"SCSI ({params['scsi_controller_type']})"
        what = f"at most {places - cdroms} {where} disks fit beside {cdroms} CD-ROM drives"
        todo = f"use another disk_type than {kind}"
        yield hv.Problem(path="disks", what=what, got=str(len(instance.disks)), todo=todo)


def _of_type(disk: hv.Disk, place: str, kind: str) -> Iterator[hv.Problem]:
    if disk.read_only and kind in ("ide", "scsi-block", "scsi-generic"):
        what = f"a disk of type {kind} cannot be read-only"
        todo = "use disk_type paravirtual or scsi-hd"
        yield hv.Problem(path=f"{place}.read_only", what=what, got="True", todo=todo)
    if disk.format != "raw" and kind in ("scsi-block", "scsi-generic"):
        what = f"disk_type {kind} gives the device itself to the guest"
        yield hv.Problem(path=f"{place}.format", what=what, got=repr(disk.format), todo='set format = "raw"')


def _of_network(disk: hv.Disk, source: Rbd | Gluster, place: str, kind: str) -> Iterator[hv.Problem]:
    if kind in ("scsi-block", "scsi-generic"):
        what = f"disk_type {kind} needs a device of the node"
        yield hv.Problem(path=f"{place}.path", what=what, got=repr(disk.path)[:80], todo="use disk_type scsi-hd")
    if isinstance(source, Rbd) and source.snapshot is not None and not (disk.read_only or kind == "scsi-cd"):
        what = "is a snapshot, which is read-only"
        yield hv.Problem(path=f"{place}.path", what=what, got=repr(disk.path)[:80], todo="set read_only = true")
    if disk.aio is not None:
        what = "has no effect on a network disk"
        yield hv.Problem(path=f"{place}.aio", what=what, got=repr(disk.aio), todo="unset it")


@hv.hookimpl
def assess(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Emulated controllers are slow."""
    kind, controller = params["disk_type"], params["scsi_controller_type"]
    todo = "use {!r} if the guest has a virtio driver"
    if instance.disks and kind == "ide":
        yield problem(params, "disk_type", "is slow", todo.format("paravirtual"))
    elif instance.disks and kind in SCSI_DISKS and controller != "virtio-scsi-pci":
        yield problem(params, "scsi_controller_type", "is slow", todo.format("virtio-scsi-pci"))


@hv.hookimpl
def plan(instance: hv.Instance, params: hv.Params) -> Iterator[Device]:
    """One device for each of the instance's disks."""
    bus, kind, threads = disk_bus(params), params["disk_type"], params["iothreads"]
    for index, disk in enumerate(instance.disks):
        yield Disk(
            bus=bus,
            model=_MODELS[kind],
            index=index,
            path=disk.path,
            format=disk.format,
            read_only=disk.read_only or kind == "scsi-cd",
            cache=disk.cache or params["disk_cache"],
            aio=disk.aio or params["disk_aio"],
            discard=disk.discard or params["disk_discard"],
            boot_index=boot_index_of(instance, params, "disks", index),
            iothread=f"iothread{index % threads}" if threads and bus == "virtio" else None,
            header_check=params["disk_header_check"],
            source=None if disk.path.startswith("/") else parse_uri(disk.path),
            base=disk.base,
            base_format=disk.base_format,
            size_mib=disk.size,
            temporary=params["disk_temporary_path"] if disk.temporary else None,
        )


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have the disk devices, the block drivers and the values of aio that the disks use."""
    for name in sorted({disk.model for disk in spec.of(Disk)}):
        if name not in facts.types:
            yield hv.Problem(path="params.disk_type", what=facts.lacks(name), todo="use another")
    for disk in spec.of(Disk):
        place = f"disks[{disk.index}]"
        needed = {disk.format, disk.source.driver} if disk.source else {file.format for file in disk.files}
        needed |= {"qcow2"} if disk.temporary else set()
        for driver in sorted(needed - facts.block_drivers if facts.block_drivers else ()):
            todo = "use a block device or a file of the node"
            yield hv.Problem(path=f"{place}.path", what=facts.lacks(driver), got=repr(disk.path)[:80], todo=todo)
        if disk.source is None and facts.aio and disk.aio not in facts.aio:
            what = f"this QEMU ({facts.version}) was built without {disk.aio}"
            yield hv.Problem(path="params.disk_aio", what=what, got=repr(disk.aio), todo="use 'threads'")


@hv.hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """For each disk its descriptors, its block node, and the device on top."""
    for disk in spec.of(Disk):
        if disk.source is None:
            yield from base_nodes(disk.bases, bindings, aio=disk.aio)
            opened = bindings[disk.upper]
            yield from descriptors(opened, disk.path if disk.temporary is None else "the temporary file")
            lower = file_props(opened, aio=disk.aio)
            if disk.bases:
                lower = {"backing": disk.bases[0].key, **lower}
        else:
            lower = network_props(disk.source)
        node: Props = {
            "driver": disk.format if disk.temporary is None else "qcow2",
            "node-name": disk.id,
            "read-only": True if disk.read_only else None,
            "auto-read-only": False,
            "discard": disk.discard,
            "cache.direct": disk.cache == "none",
            "cache.no-flush": False,
            **lower,
        }
        yield Opt(name="-blockdev", props=node, params=("disk_cache", "disk_aio", "disk_discard"), why=_WHY_FORMAT)
        yield _device(disk, spec)


def _device(disk: Disk, spec: KvmSpec) -> Opt:
    # scsi-block and scsi-generic pass on the guest's commands for caching too; a CD-ROM drive writes nothing.
    cached = disk.model in ("virtio-blk-pci", "ide-hd", "scsi-hd")
    cache: Props = {"write-cache": "off" if disk.cache == "writethrough" else "on"} if cached else {}
    props: Props = {"id": f"{disk.id}-dev", "drive": disk.id, **_place(disk, spec), **cache}
    props |= {"iothread": disk.iothread, "bootindex": disk.boot_index}
    used = ("disk_type", "boot_order", "iothreads" if disk.iothread else "")
    return Opt(name="-device", head=disk.model, props=props, params=tuple(filter(None, used)))


def _place(disk: Disk, spec: KvmSpec) -> Props:
    if disk.bus == "virtio":
        return disk.address(spec)
    if disk.bus == "scsi":
        return scsi_place(disk.index)
    if spec.q35:
        return {"bus": f"ide.{disk.index}", "unit": 0}
    return {"bus": f"ide.{disk.index // 2}", "unit": disk.index % 2}
