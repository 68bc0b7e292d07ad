"""CD-ROM drives with an image from a file of the node or from a URL, and a floppy drive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import descriptors, file_props, read_only_image
from hv_kvm.devices.shared.buses import CDROM_IMAGES, SCSI_DISKS, SCSI_TARGETS, cdrom_bus_of, scsi_place
from hv_kvm.devices.shared.params import lacking, problem
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import AUTHORITIES, HOST_NETWORK, HOSTS, RESOLV_CONF, Bindings, BlockModule, Image
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned
from hvcore.plugin import dataclass

__all__ = ["DEVICES", "PARAMS", "Cdrom", "Floppy", "check", "plan", "render", "verify"]

_FLOPPY: Final = "floppy1"
_NOT_A_CDROM: Final = dict.fromkeys(
    (*(name for name in SCSI_DISKS if name != "scsi-cd"), "scsi", "sd", "mtd", "pflash"),
    "is not a kind of CD-ROM drive",
)

PARAMS: Final = hv.ParamGroup(
    "media",
    hv.Param(
        CDROM_IMAGES[0],
        hv.file_or_url(),
        help="The ISO image in the guest's first CD-ROM drive: a file of the node, or a URL that QEMU reads while the guest "
        "runs.",
        default_means="no CD-ROM drive",
        example="/srv/iso/debian.iso",
    ),
    hv.Param(
        CDROM_IMAGES[1],
        hv.file_or_url(),
        help="The ISO image in the guest's second CD-ROM drive.",
        default_means="no second CD-ROM drive",
        example="/srv/iso/drivers.iso",
    ),
    hv.Param(
        "cdrom_disk_type",
        hv.one_of(
            {
                "ide": "IDE, or SATA on a q35 machine.",
                "scsi-cd": "SCSI, on the controller of scsi_controller_type.",
                "paravirtual": "virtio-blk: the guest sees a read-only disk and not a CD-ROM drive. The drive that boots is on IDE.",
            },
            refused=_NOT_A_CDROM,
        ),
        help="The kind of CD-ROM drive that the guest sees.",
        default_means="scsi-cd if the disks are SCSI disks, else ide",
        example="scsi-cd",
    ),
    hv.Param(
        "floppy_image_path",
        hv.file(),
        help="The image in the guest's floppy drive. The guest cannot write to it.",
        default_means="no floppy drive",
        example="/srv/img/boot.fd",
    ),
    help="The guest's CD-ROM and floppy drives.",
)
_MODELS: Final = {"ide": "ide-cd", "scsi": "scsi-cd", "virtio": "virtio-blk-pci"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cdrom(PciDevice):
    """A CD-ROM drive on the last places of its bus. Several instances can use one image, because it is only read.

    ``number`` is 1 or 2; ``target`` is the target on a SCSI bus. An empty ``image`` is an empty drive.
    """

    number: int
    bus: str
    image: str
    target: int
    boot_index: int | None

    on_board: ClassVar[bool] = True

    @property
    def id(self) -> str:
        """The id of the drive's block node; that of its device ends with ``-dev``."""
        return f"cdrom{self.number}"

    @property
    def label(self) -> str:
        """The same."""
        return self.id

    @property
    def key(self) -> str:
        """The parameter that names the image."""
        return CDROM_IMAGES[self.number - 1]

    @property
    def medium(self) -> str:
        """The path or URL of the image; empty for an empty drive."""
        return self.image

    def with_medium(self, image: str) -> Cdrom:
        """The drive with that image in it."""
        return replace(self, image=image)

    @property
    def protocol(self) -> str | None:
        """The block driver that reads a URL; None for a file."""
        return None if self.image.startswith("/") or not self.image else self.image.partition(":")[0]

    @property
    def needs_slot(self) -> bool:
        """Whether the drive itself is a PCI device: only a virtio drive is."""
        return self.bus == "virtio"

    @property
    def file(self) -> Image:
        """The image file, read-only and not claimed."""
        return Image(
            key=self.id,
            given_by=f"params.{self.key}",
            path=self.image,
            fdset=20 + self.number,
            write=False,
            claim=False,
        )

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The file; for a URL the block driver, the network, and the files for names of hosts and for TLS."""
        if not self.image:
            return
        if self.protocol is None:
            yield self.file
            return
        given_by = f"params.{self.key}"
        yield BlockModule(key=f"{self.id}.module", given_by=given_by, qemu=spec.qemu, driver=self.protocol)
        yield from (HOST_NETWORK, RESOLV_CONF, HOSTS, AUTHORITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Floppy(Device):
    """The floppy drive, whose image is only read too."""

    path: str
    boot_index: int | None

    @property
    def label(self) -> str:
        """The id of its block node; that of its device ends with ``-dev``."""
        return _FLOPPY

    @property
    def key(self) -> str:
        """The parameter that names the image."""
        return "floppy_image_path"

    @property
    def medium(self) -> str:
        """The path of the image; empty for an empty drive."""
        return self.path

    def with_medium(self, image: str) -> Floppy:
        """The drive with that image in it."""
        return replace(self, path=image)

    @property
    def file(self) -> Image:
        """The image file, read-only and not claimed."""
        return Image(key=_FLOPPY, given_by=f"params.{self.key}", path=self.path, fdset=10, write=False, claim=False)

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The image, if there is one in the drive."""
        if self.path:
            yield self.file


DEVICES: Final = (Cdrom, Floppy)


@hv.hookimpl
@hv.when_given(*CDROM_IMAGES)
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """A second CD-ROM drive needs a first."""
    if params[CDROM_IMAGES[1]] and not params[CDROM_IMAGES[0]]:
        yield problem(params, CDROM_IMAGES[1], "is set without a first CD-ROM image", f"set {CDROM_IMAGES[0]}")


@hv.hookimpl
@hv.when_given(*CDROM_IMAGES, "floppy_image_path")
def plan(params: hv.Params) -> Iterator[Device]:
    """A drive for each image."""
    targets = SCSI_TARGETS[params["scsi_controller_type"]]
    for number, key in enumerate(CDROM_IMAGES, start=1):
        if params[key] is not None:
            boot_index = 1 if number == 1 and params["boot_order"] == "cdrom" else None
            bus = cdrom_bus_of(params, number)
            yield Cdrom(number=number, bus=bus, image=params[key], target=targets - number, boot_index=boot_index)
    if params["floppy_image_path"]:
        boot_index = 1 if params["boot_order"] == "floppy" else None
        yield Floppy(path=params["floppy_image_path"], boot_index=boot_index)


@hv.hookimpl
@when_planned(Cdrom, Floppy)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """This QEMU must have the drives, and the block driver for a URL."""
    for cdrom in spec.of(Cdrom):
        yield from lacking(facts, _MODELS[cdrom.bus], "params.cdrom_disk_type", "use another")
        if cdrom.protocol and facts.block_drivers and cdrom.protocol not in facts.block_drivers:
            what = f"this QEMU ({facts.version}) was built without {cdrom.protocol}"
            yield hv.Problem(path=f"params.{cdrom.key}", what=what, got=repr(cdrom.image)[:80], todo="use a file")
    if spec.of(Floppy) and not (facts.has_type("floppy") and facts.has_type("isa-fdc")):
        what = f"this QEMU ({facts.version}) has no floppy drive"
        yield hv.Problem(path="params.floppy_image_path", what=what, todo="use a CD-ROM drive")


@hv.hookimpl
@when_planned(Cdrom, Floppy)
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The descriptor, block node and device of each drive."""
    for cdrom in spec.of(Cdrom):
        if cdrom.image:
            lower: Props = {"file.driver": cdrom.protocol, "file.url": cdrom.image}
            if not cdrom.protocol:
                opened = bindings[cdrom.file]
                yield from descriptors(opened, cdrom.image)
                lower = file_props(opened)
            yield read_only_image(cdrom.id, lower, (cdrom.key,))
        props: Props = {"id": f"{cdrom.id}-dev", "drive": cdrom.id if cdrom.image else None, **_place(cdrom, spec)}
        props["bootindex"] = cdrom.boot_index
        yield Opt(name="-device", head=_MODELS[cdrom.bus], props=props, params=("cdrom_disk_type", "boot_order"))
    for floppy in spec.of(Floppy):
        yield from _floppy(floppy, spec, bindings)


def _place(cdrom: Cdrom, spec: KvmSpec) -> Props:
    if cdrom.bus == "virtio":
        return cdrom.address(spec)
    if cdrom.bus == "scsi":
        return scsi_place(cdrom.target)
    # CD-ROM drives from the last place down, disks from the first place up.
    return {"bus": f"ide.{6 - cdrom.number}", "unit": 0} if spec.q35 else {"bus": "ide.1", "unit": 2 - cdrom.number}


def _floppy(floppy: Floppy, spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """The controller has the boot index. A pc machine has a controller, a q35 machine needs one."""
    keys = ("floppy_image_path", "boot_order")
    if floppy.path:
        opened = bindings[floppy.file]
        yield from descriptors(opened, floppy.path)
        yield read_only_image(_FLOPPY, file_props(opened), keys[:1])
    props: Props = {"id": f"{_FLOPPY}-dev", "drive": _FLOPPY if floppy.path else None}
    if spec.q35:
        controller: Props = {"id": "fdc", "bootindexA": floppy.boot_index}
        yield Opt(name="-device", head="isa-fdc", props=controller, params=keys)
        props["bus"] = "fdc.0"
    elif floppy.boot_index is not None:
        fixed: Props = {"driver": "isa-fdc", "property": "bootindexA", "value": floppy.boot_index}
        yield Opt(name="-global", props=fixed, params=keys, why="the controller is part of the machine")
    yield Opt(name="-device", head="floppy", props=props, params=keys[:1])
