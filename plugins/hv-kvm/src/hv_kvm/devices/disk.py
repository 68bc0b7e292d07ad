"""Disks: images and block devices, opened before QEMU starts and handed over by descriptor, and network disks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import Gluster, Rbd, descriptors, file_props, network_props, parse_uri
from hv_kvm.devices.shared.buses import SCSI_DISKS, SCSI_TARGETS, boot_turn, cdroms_on, disk_bus
from hv_kvm.devices.shared.params import problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import HOST_NETWORK, Bindings, BlockModule, Image, Outside
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice

__all__ = ["DEVICES", "PARAMS", "Disk", "assess", "check", "plan", "render", "verify"]

_NEVER: Final = {
    "scsi": "is an interface that no PC has in QEMU any more; a disk behind its SCSI controller is 'scsi-hd'",
    "sd": "is an SD card, and a PC has no slot for one",
    "mtd": "is flash memory of embedded boards, and a PC has none",
    "pflash": "is the flash memory of the firmware, not a disk; see uefi_vars_path",
}

PARAMS: Final = hv.ParamGroup(
    "disk",
    hv.Param(
        "disk_type",
        hv.one_of("paravirtual", "ide", *SCSI_DISKS, refused=_NEVER),
        default="paravirtual",
        help="How the guest sees its disks: virtio-blk (paravirtual), IDE, or behind the SCSI controller.",
        example="scsi-hd",
    ),
    hv.Param(
        "disk_cache",
        hv.one_of("default", "none", "writeback", "writethrough"),
        default="default",
        help="How the node caches the disks; none goes past its page cache.",
        example="none",
    ),
    hv.Param(
        "disk_aio",
        hv.one_of("threads", "native", "io_uring"),
        default="threads",
        help="How QEMU does the input and output of the disks; native needs disk_cache none.",
        example="io_uring",
    ),
    hv.Param(
        "disk_discard",
        hv.one_of("ignore", "unmap"),
        default="ignore",
        help="Whether blocks that the guest gives up are given back to the node.",
        example="unmap",
    ),
    help="The guest's disks; each can have a cache, aio and discard of its own under [[disks]].",
)
_URIS: Final = "the forms are rbd:POOL/IMAGE and gluster://HOST/VOLUME/PATH"
_NODE: Final = ("disk_cache", "disk_aio", "disk_discard")
_MODELS: Final = {"paravirtual": "virtio-blk-pci", "ide": "ide-hd", **{name: name for name in SCSI_DISKS}}
_FIRST_FDSET: Final = 100
_IDE_PLACES: Final = 4  # two on each of the pc's two channels; q35 has two more, which are left to its cdroms


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk(PciDevice):
    """A disk: virtio-blk on a PCI slot of its own, on the machine's IDE controller, or a target of the SCSI one.

    ``source`` is set for a disk over the network, which no path leads to.
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
    source: Rbd | Gluster | None = None

    @property
    def id(self) -> str:
        """The id that the disk has in QEMU, as device and as block node."""
        return f"disk{self.index}"

    @property
    def needs_slot(self) -> bool:
        """Only a virtio disk is a PCI device itself."""
        return self.bus == "virtio"

    @property
    def image(self) -> Image:
        """The image or device of a disk of the node, for this instance alone."""
        return Image(
            key=self.id,
            given_by=self.given_by,
            path=self.path,
            fdset=_FIRST_FDSET + self.index,
            write=not self.read_only,
            claim=True,
            direct=self.cache == "none",
            must_be={"scsi-block": "block", "scsi-generic": "sg"}.get(self.model, "image"),
            format=self.format,
        )

    @property
    def given_by(self) -> str:
        """The path of its field in the instance."""
        return f"disks[{self.index}].path"

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """Its image; of a network disk the right to it, what speaks to its servers, and the way there."""
        if self.source is None:
            yield self.image
            return
        yield hv.DiskClaim(key=self.id, given_by=self.given_by, path=self.source.canonical, write=not self.read_only)
        yield HOST_NETWORK
        yield BlockModule(key=f"{self.id}.module", given_by=self.given_by, qemu=spec.qemu, driver=self.source.driver)
        # Ceph's and Gluster's libraries read files of the node whose names only they know.
        own = "configuration and keys" if isinstance(self.source, Rbd) else "certificates, volume files and sockets"
        reason = f"the {self.source.driver} library needs the node's {own}"
        yield Outside(key=f"{self.id}.outside", given_by=self.given_by, reason=reason)


DEVICES: Final = (Disk,)


@hv.hookimpl
def check(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Places on the bus, each disk once, and combinations that QEMU refuses."""
    kind = params["disk_type"]
    if kind != "paravirtual":  # their slots are counted when all devices are there
        yield from _places(instance, params)
    if not instance.disks or any(disk.cache is None and disk.aio is None for disk in instance.disks):
        yield from _native_needs_direct(params["disk_aio"], params["disk_cache"], "params.disk_cache")
    names: set[str] = set()
    for index, disk in enumerate(instance.disks):
        local = disk.path.startswith("/")
        name = disk.path if local else _one_name(disk.path)
        if name in names:
            what = "is a disk of this instance already"
            yield hv.Problem(path=f"disks[{index}].path", what=what, got=repr(disk.path)[:80])
        names.add(name)
        if disk.cache is not None or disk.aio is not None:
            aio, cache = disk.aio or params["disk_aio"], disk.cache or params["disk_cache"]
            yield from _native_needs_direct(aio, cache, f"disks[{index}].cache")
        if kind != "paravirtual":
            yield from _of_type(disk, f"disks[{index}]", kind)
        if not local:
            yield from _of_uri(disk, f"disks[{index}]", kind)


def _one_name(path: str) -> str:
    """The one URI of a network disk that has many."""
    with suppress(ValueError):
        return parse_uri(path).canonical
    return path


def _native_needs_direct(aio: str, cache: str, path: str) -> Iterator[hv.Problem]:
    if aio == "native" and cache != "none":
        what = "native aio needs 'none'"
        yield hv.Problem(path=path, what=what, got=repr(cache), todo=f'set {path.rpartition(".")[2]} = "none"')


def _places(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    kind, bus = params["disk_type"], disk_bus(params)
    places = _IDE_PLACES if bus == "ide" else SCSI_TARGETS[params["scsi_controller_type"]]
    cdroms = cdroms_on(params, bus)
    if len(instance.disks) > places - cdroms:
        where = "IDE" if bus == "ide" else f"SCSI ({params['scsi_controller_type']})"
        what = f"there are places for {places - cdroms} {where} disks beside {cdroms} cdroms"
        todo = f"use another disk_type than {kind}"
        yield hv.Problem(path="disks", what=what, got=str(len(instance.disks)), todo=todo)


def _of_type(disk: hv.Disk, place: str, kind: str) -> Iterator[hv.Problem]:
    if disk.read_only and kind in ("ide", "scsi-block", "scsi-generic"):
        what = f"a disk of type {kind} cannot be read-only"
        todo = "use disk_type paravirtual or scsi-hd"
        yield hv.Problem(path=f"{place}.read_only", what=what, got="True", todo=todo)
    if disk.format != "raw" and kind in ("scsi-block", "scsi-generic"):
        what = f"disk_type {kind} hands the device itself to the guest"
        yield hv.Problem(path=f"{place}.format", what=what, got=repr(disk.format), todo='set format = "raw"')


def _of_uri(disk: hv.Disk, place: str, kind: str) -> Iterator[hv.Problem]:
    try:
        source = parse_uri(disk.path)
    except ValueError as error:
        yield hv.Problem(path=f"{place}.path", what=str(error), got=repr(disk.path)[:80], todo=_URIS)
        return
    if kind in ("scsi-block", "scsi-generic"):
        what = f"disk_type {kind} needs a device of the node"
        yield hv.Problem(path=f"{place}.path", what=what, got=repr(disk.path)[:80], todo="use disk_type scsi-hd")
    if isinstance(source, Rbd) and source.snapshot is not None and not (disk.read_only or kind == "scsi-cd"):
        what = "is of a snapshot, which nobody can write to"
        yield hv.Problem(path=f"{place}.path", what=what, got=repr(disk.path)[:80], todo="set read_only = true")
    if disk.aio is not None:
        what = "has no meaning for a network disk"
        yield hv.Problem(path=f"{place}.aio", what=what, got=repr(disk.aio), todo="unset it")


@hv.hookimpl
def assess(instance: hv.Instance, params: hv.Params) -> Iterator[hv.Problem]:
    """Emulated controllers are slow."""
    kind, controller = params["disk_type"], params["scsi_controller_type"]
    if instance.disks and kind == "ide":
        yield problem(params, "disk_type", "is slow", "use 'paravirtual' if the guest can")
    elif instance.disks and kind in SCSI_DISKS and controller != "virtio-scsi-pci":
        yield problem(params, "scsi_controller_type", "is slow", "use 'virtio-scsi-pci' if the guest can")


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
            boot_index=boot_turn(instance, params, "disks", index),
            iothread=f"iothread{index % threads}" if threads and bus == "virtio" else None,
            source=None if disk.path.startswith("/") else parse_uri(disk.path),
        )


@hv.hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """Devices, block drivers and kinds of input and output must exist in this QEMU."""
    for name in sorted({disk.model for disk in spec.of(Disk)}):
        if name not in facts.types:
            yield hv.Problem(path="params.disk_type", what=facts.lacks(name), todo="use another")
    for disk in spec.of(Disk):
        place = f"disks[{disk.index}]"
        needed = {disk.format, disk.source.driver} if disk.source else {disk.format}
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
            opened = bindings[disk.image]
            yield from descriptors(opened, disk.path)
            lower = file_props(opened, aio=disk.aio)
        else:
            lower = network_props(disk.source)
        yield _blockdev(disk, lower)
        yield _device(disk, spec)


def _blockdev(disk: Disk, lower: Props) -> Opt:
    props: Props = {
        "driver": disk.format,
        "node-name": disk.id,
        "read-only": True if disk.read_only else None,
        "auto-read-only": False,
        "discard": disk.discard,
        "cache.direct": disk.cache == "none",
        "cache.no-flush": False,
        **lower,
    }
    why = "the format is said, so that what a guest writes into its disk is never taken for another"
    return Opt(name="-blockdev", props=props, params=_NODE, why=why)


def _device(disk: Disk, spec: KvmSpec) -> Opt:
    # scsi-block and scsi-generic pass the guest's commands on, caching ones too; a cdrom has nothing to write.
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
        return {"bus": "scsi.0", "channel": 0, "scsi-id": disk.index, "lun": 0}
    if spec.q35:
        return {"bus": f"ide.{disk.index}", "unit": 0}
    return {"bus": f"ide.{disk.index // 2}", "unit": disk.index % 2}
