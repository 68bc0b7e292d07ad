"""Disks: raw images and block devices, opened before QEMU starts and handed over by descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hv_kvm.bindings import Bindings, GuestFile
from hv_kvm.facts import Facts
from hv_kvm.option import Opt, Value
from hv_kvm.spec import Device, KvmSpec, Open, PciDevice
from hvcore import Instance, Param, ParamGroup, Params, Problem, hookimpl, one_of

__all__ = ["PARAMS", "Disk", "check", "params", "plan", "render", "verify"]

PARAMS: Final = ParamGroup(
    "disk",
    Param(
        "disk_type",
        one_of("paravirtual", "ide"),
        default="paravirtual",
        help="How the guest sees its disks: virtio-blk (paravirtual) or IDE.",
    ),
    Param(
        "disk_cache",
        one_of("default", "none", "writeback", "writethrough"),
        default="default",
        help="How the node caches the disks; none goes past its page cache.",
    ),
    Param(
        "disk_aio",
        one_of("threads", "native", "io_uring"),
        default="threads",
        help="How QEMU does the input and output of the disks; native needs disk_cache none.",
    ),
    Param(
        "disk_discard",
        one_of("ignore", "unmap"),
        default="ignore",
        help="Whether blocks that the guest gives up are given back to the node.",
    ),
    help="The guest's disks, all of them alike.",
)
_ALL: Final = ("disk_type", "disk_cache", "disk_aio", "disk_discard")
_VIRTIO: Final = "virtio"
_IDE: Final = "ide"
_MODELS: Final = {_VIRTIO: "virtio-blk-pci", _IDE: "ide-hd"}
_IDE_PLACES: Final = 3  # of the four, the last is the cdrom's


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk(PciDevice):
    """A disk: virtio-blk on a PCI slot of its own, or on the machine's IDE controller."""

    bus: str
    index: int
    path: str
    read_only: bool
    cache: str
    aio: str
    discard: str
    boot_index: int | None

    @property
    def id(self) -> str:
        """The id that the disk has in QEMU, as device and as block node."""
        return f"disk{self.index}"

    def takes_slot(self) -> bool:
        """An IDE disk is behind the controller that the machine has."""
        return self.bus == _VIRTIO

    def opens(self) -> tuple[Open, ...]:
        """The image or device, for this instance alone."""
        direct = self.cache == "none"
        given_as = f"disks[{self.index}].path"
        write = not self.read_only
        return (Open(name=self.id, given_as=given_as, path=self.path, write=write, claim=True, direct=direct),)


@hookimpl
def params() -> ParamGroup:
    """The family's parameters."""
    return PARAMS


@hookimpl
def check(instance: Instance, params: Params) -> Iterator[Problem]:
    """Native aio only past the page cache (QEMU refuses it otherwise), and IDE has few places."""
    if params["disk_aio"] == "native" and params["disk_cache"] != "none":
        got = repr(params["disk_cache"])
        yield Problem(
            path="params.disk_cache", what="disk_aio native needs 'none'", got=got, todo='set disk_cache = "none"'
        )
    if params["disk_type"] == "ide" and len(instance.disks) > _IDE_PLACES:
        what = f"there are places for {_IDE_PLACES} IDE disks beside the cdrom"
        yield Problem(path="disks", what=what, got=str(len(instance.disks)), todo="use disk_type paravirtual")
    paths = [disk.path for disk in instance.disks]
    for index, path in enumerate(paths):
        if path in paths[:index]:
            yield Problem(path=f"disks[{index}].path", what="is a disk of this instance already", got=repr(path)[:80])
    if params["disk_type"] == "ide" and any(disk.read_only for disk in instance.disks):
        yield Problem(path="disks", what="an IDE disk cannot be read-only", todo="use disk_type paravirtual")


@hookimpl
def plan(instance: Instance, params: Params) -> Iterator[Device]:
    """One device for each of the instance's disks."""
    bus = _VIRTIO if params["disk_type"] == "paravirtual" else _IDE
    boots = params["boot_order"] == "disk"
    for index, disk in enumerate(instance.disks):
        yield Disk(
            bus=bus,
            index=index,
            path=disk.path,
            read_only=disk.read_only,
            cache=params["disk_cache"],
            aio=params["disk_aio"],
            discard=params["disk_discard"],
            boot_index=1 if boots and index == 0 else None,
        )


@hookimpl
def verify(spec: KvmSpec, facts: Facts) -> Iterator[Problem]:
    """The device must exist in this QEMU."""
    for name in {_MODELS[disk.bus] for disk in spec.of(Disk)}:
        if name not in facts.types:
            yield Problem(
                path="params.disk_type", what=f"this QEMU ({facts.version}) has no {name}", todo="use another"
            )


@hookimpl
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """For each disk its descriptors, its block node, and the device on top."""
    for disk in spec.of(Disk):
        opened = bindings.files[disk.id]
        for fd in opened.fds:
            yield Opt(name="-add-fd", props={"fd": fd, "set": opened.set_id}, why=f"{disk.path}, opened before")
        yield _blockdev(disk, opened)
        yield _device(disk, spec)


def _blockdev(disk: Disk, opened: GuestFile) -> Opt:
    direct = disk.cache == "none"
    return Opt(
        name="-blockdev",
        props={
            "driver": "raw",
            "node-name": disk.id,
            "read-only": True if disk.read_only else None,
            "auto-read-only": False,
            "discard": disk.discard,
            "cache.direct": direct,
            "cache.no-flush": False,
            "file.driver": "host_device" if opened.block_device else "file",
            "file.filename": opened.path,
            "file.aio": disk.aio,
        },
        params=_ALL[1:],
        why="raw: what a guest writes into its disk is never taken for an image format",
    )


def _device(disk: Disk, spec: KvmSpec) -> Opt:
    place: dict[str, Value | None] = disk.address(spec)
    if disk.bus == _IDE:
        place = {"bus": f"ide.{disk.index}", "unit": 0}
        if not spec.q35:
            place = {"bus": f"ide.{disk.index // 2}", "unit": disk.index % 2}
    cache = {"write-cache": "off" if disk.cache == "writethrough" else "on"}
    props = {"id": f"{disk.id}-dev", "drive": disk.id, **place, **cache, "bootindex": disk.boot_index}
    return Opt(name="-device", head=_MODELS[disk.bus], props=props, params=("disk_type", "boot_order"))
