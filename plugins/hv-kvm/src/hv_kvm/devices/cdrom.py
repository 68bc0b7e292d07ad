"""Cdrom drives with an image in them, from a file of the node or from a web or ftp server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import hvcore.plugin as hv
from hv_kvm.devices.shared.block_nodes import descriptors, file_props, read_only_image
from hv_kvm.devices.shared.buses import SCSI_DISKS, SCSI_TARGETS, boots_first, cdrom_bus
from hv_kvm.machine.bindings import Bindings
from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt, Props
from hv_kvm.machine.resource import AUTHORITIES, HOST_NETWORK, HOSTS, RESOLV_CONF, BlockModule, Image
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice, when_planned

__all__ = ["DEVICES", "PARAMS", "Cdrom", "check", "plan", "render", "verify"]

_KEYS: Final = ("cdrom_image_path", "cdrom2_image_path")
_NOT_A_CDROM: Final = dict.fromkeys(
    (*(name for name in SCSI_DISKS if name != "scsi-cd"), "scsi", "sd", "mtd", "pflash"),
    "is not a kind of cdrom drive",
)

PARAMS: Final = hv.ParamGroup(
    "cdrom",
    hv.Param(
        _KEYS[0],
        hv.file_or_url(),
        help="An ISO image to put into the guest's first cdrom drive.",
        example="/srv/iso/debian.iso",
    ),
    hv.Param(
        _KEYS[1],
        hv.file_or_url(),
        help="An ISO image to put into the guest's second cdrom drive.",
        example="/srv/iso/drivers.iso",
    ),
    hv.Param(
        "cdrom_disk_type",
        hv.one_of("ide", "scsi-cd", "paravirtual", refused=_NOT_A_CDROM),
        help="How the guest sees its cdroms. Unset: like its disks when those are SCSI, else IDE.",
        example="scsi-cd",
    ),
    help="The guest's cdroms.",
)
_MODELS: Final = {"ide": "ide-cd", "scsi": "scsi-cd", "virtio": "virtio-blk-pci"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cdrom(PciDevice):
    """A drive on the last places of its bus. Images are only read, so any number of instances may use one.

    ``number`` is 1 or 2; ``target`` the SCSI one, which disks leave free.
    """

    number: int
    bus: str
    image: str
    target: int
    boot_index: int | None

    on_board: ClassVar[bool] = True

    @property
    def id(self) -> str:
        """The id that the drive has in QEMU, as device and as block node."""
        return f"cdrom{self.number}"

    @property
    def key(self) -> str:
        """The parameter that its image comes from."""
        return _KEYS[self.number - 1]

    @property
    def protocol(self) -> str | None:
        """Of a URL, the block driver that reads it."""
        return None if self.image.startswith("/") else self.image.partition(":")[0]

    @property
    def needs_slot(self) -> bool:
        """Only a virtio one is a PCI device itself."""
        return self.bus == "virtio"

    @property
    def file(self) -> Image:
        """The image in a file of the node, read-only and not claimed."""
        return Image(
            key=self.id,
            given_by=f"params.{self.key}",
            path=self.image,
            fdset=20 + self.number,
            write=False,
            claim=False,
        )

    def resources(self, spec: KvmSpec) -> Iterator[hv.Resource[Any]]:
        """The file; for a URL what reads it, and what it takes to find a server by its name and to trust it."""
        if self.protocol is None:
            yield self.file
            return
        given_by = f"params.{self.key}"
        yield BlockModule(key=f"{self.id}.module", given_by=given_by, qemu=spec.qemu, driver=self.protocol)
        yield from (HOST_NETWORK, RESOLV_CONF, HOSTS, AUTHORITIES)


DEVICES: Final = (Cdrom,)


@hv.hookimpl
@hv.when_given(*_KEYS)
def check(params: hv.Params) -> Iterator[hv.Problem]:
    """A second drive comes after a first one."""
    if params[_KEYS[1]] and not params[_KEYS[0]]:
        what = "is set and there is no first cdrom"
        yield hv.Problem(path=f"params.{_KEYS[1]}", what=what, got=repr(params[_KEYS[1]])[:80], todo=f"set {_KEYS[0]}")


@hv.hookimpl
@hv.when_given(*_KEYS)
def plan(params: hv.Params) -> Iterator[Device]:
    """A drive for each image."""
    targets = SCSI_TARGETS[params["scsi_controller_type"]]
    for number, key in enumerate(_KEYS, start=1):
        if params[key] is not None:
            boot_index = 1 if number == 1 and boots_first(params, "cdrom") else None
            bus = cdrom_bus(params)
            yield Cdrom(number=number, bus=bus, image=params[key], target=targets - number, boot_index=boot_index)


@hv.hookimpl
@when_planned(Cdrom)
def verify(spec: KvmSpec, facts: Facts) -> Iterator[hv.Problem]:
    """The drive must exist in this QEMU, and what reads a URL."""
    for cdrom in spec.of(Cdrom):
        model = _MODELS[cdrom.bus]
        if not facts.has_type(model):
            what = facts.lacks(model)
            yield hv.Problem(path="params.cdrom_disk_type", what=what, todo="use another")
        if cdrom.protocol and facts.block_drivers and cdrom.protocol not in facts.block_drivers:
            what = f"this QEMU ({facts.version}) was built without {cdrom.protocol}"
            yield hv.Problem(path=f"params.{cdrom.key}", what=what, got=repr(cdrom.image)[:80], todo="use a file")


@hv.hookimpl
@when_planned(Cdrom)
def render(spec: KvmSpec, bindings: Bindings) -> Iterator[Opt]:
    """Descriptor, block node, drive."""
    for cdrom in spec.of(Cdrom):
        lower: Props = {"file.driver": cdrom.protocol, "file.url": cdrom.image}
        if not cdrom.protocol:
            opened = bindings[cdrom.file]
            yield from descriptors(opened, cdrom.image)
            lower = file_props(opened)
        yield read_only_image(cdrom.id, lower, (cdrom.key,))
        props: Props = {"id": f"{cdrom.id}-dev", "drive": cdrom.id, **_place(cdrom, spec)}
        props["bootindex"] = cdrom.boot_index
        yield Opt(name="-device", head=_MODELS[cdrom.bus], props=props, params=("cdrom_disk_type", "boot_order"))


def _place(cdrom: Cdrom, spec: KvmSpec) -> Props:
    if cdrom.bus == "virtio":
        return cdrom.address(spec)
    if cdrom.bus == "scsi":
        return {"bus": "scsi.0", "channel": 0, "scsi-id": cdrom.target, "lun": 0}
    # From the last place down, the disks from the first one up.
    return {"bus": f"ide.{6 - cdrom.number}", "unit": 0} if spec.q35 else {"bus": "ide.1", "unit": 2 - cdrom.number}
