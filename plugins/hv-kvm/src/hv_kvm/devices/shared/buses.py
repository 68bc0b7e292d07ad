"""Decisions that several families need: the buses of disks, the SCSI controller, the boot order. Pure."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv
from hv_kvm.machine.option import Props

__all__ = [
    "CDROM_IMAGES",
    "SCSI_DISKS",
    "SCSI_TARGETS",
    "boot_index_of",
    "cdrom_bus",
    "cdrom_bus_of",
    "cdroms_on",
    "disk_bus",
    "first_by_boot_order",
    "needs_scsi",
    "scsi_place",
]

SCSI_DISKS: Final = ("scsi-hd", "scsi-cd", "scsi-block", "scsi-generic")
SCSI_TARGETS: Final = {"lsi": 7, "virtio-scsi-pci": 256, "megasas": 64, "dc390": 7}
"""The number of targets of each controller. The old buses have eight ids, one of them for the controller itself."""

CDROM_IMAGES: Final = ("cdrom_image_path", "cdrom2_image_path")
"""The parameters that name the images of the two CD-ROM drives."""


def disk_bus(params: hv.Params) -> str:
    """The bus of the disks: ``virtio``, ``ide`` or ``scsi``."""
    kind: str = params["disk_type"]
    return "scsi" if kind in SCSI_DISKS else {"paravirtual": "virtio"}.get(kind, kind)


def cdrom_bus(params: hv.Params) -> str:
    """The bus of the CD-ROM drives: ``virtio``, ``ide`` or ``scsi``; by default SCSI if the disks are there, else IDE.

    The guest sees a virtio-blk CD-ROM as a hard disk, so virtio is never the default.
    """
    kind: str | None = params["cdrom_disk_type"]
    if kind is not None:
        return {"paravirtual": "virtio", "scsi-cd": "scsi"}.get(kind, kind)
    return "scsi" if disk_bus(params) == "scsi" else "ide"


def cdrom_bus_of(params: hv.Params, number: int) -> str:
    """The bus of drive 1 or 2. The drive that boots is never on virtio: no firmware boots an ISO image from a hard disk."""
    bus = cdrom_bus(params)
    return "ide" if bus == "virtio" and number == 1 and params["boot_order"] == "cdrom" else bus


def cdroms_on(params: hv.Params, bus: str) -> int:
    """The number of CD-ROM drives on the bus."""
    drives = enumerate(CDROM_IMAGES, start=1)
    return sum(params[key] is not None and cdrom_bus_of(params, number) == bus for number, key in drives)


def needs_scsi(instance: hv.Instance, params: hv.Params) -> bool:
    """Whether the guest has a disk or CD-ROM drive on a SCSI controller."""
    return (disk_bus(params) == "scsi" and bool(instance.disks)) or bool(cdroms_on(params, "scsi"))


def scsi_place(target: int) -> Props:
    """The place of a disk or CD-ROM drive on the bus of the SCSI controller."""
    return {"bus": "scsi.0", "channel": 0, "scsi-id": target, "lun": 0}


def first_by_boot_order(instance: hv.Instance, params: hv.Params) -> str | None:
    """The field of the device that boot_order puts first; None if there is no such device.

    With boot_order disk, that is the first disk, and None if any disk has a boot_index; with network the same for NICs.
    """
    order = params["boot_order"]
    if order in ("cdrom", "floppy"):
        return f"params.{order}_image_path" if params[f"{order}_image_path"] is not None else None
    key, rows = ("disks", instance.disks) if order == "disk" else ("nics", instance.nics)
    return f"{key}[0]" if rows and all(row.boot_index is None for row in rows) else None


def boot_index_of(instance: hv.Instance, params: hv.Params, key: str, index: int) -> int | None:
    """The boot index of ``disks[index]`` or ``nics[index]``; None if the firmware does not boot from the device."""
    if first_by_boot_order(instance, params) == f"{key}[{index}]":
        return 1
    given: int | None = getattr(instance, key)[index].boot_index
    return given
