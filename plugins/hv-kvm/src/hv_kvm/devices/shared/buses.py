"""Decisions that more than one family needs: on which bus, behind which controller, whose turn to boot. Pure."""

from __future__ import annotations

from typing import Final

import hvcore.plugin as hv

__all__ = [
    "SCSI_DISKS",
    "SCSI_TARGETS",
    "boot_turn",
    "boots_first",
    "cdrom_bus",
    "cdroms_on",
    "disk_bus",
    "implied_turn",
    "needs_scsi",
]

SCSI_DISKS: Final = ("scsi-hd", "scsi-cd", "scsi-block", "scsi-generic")
SCSI_TARGETS: Final = {"lsi": 7, "virtio-scsi-pci": 256, "megasas": 64, "dc390": 7}
"""How many targets each controller has. Of the old buses' eight, the controller is one (QEMU lsi53c895a.c, esp.c)."""

_CDROMS: Final = ("cdrom_image_path", "cdrom2_image_path")


def disk_bus(params: hv.Params) -> str:
    """The bus of the disks: ``virtio``, ``ide`` or ``scsi``."""
    kind: str = params["disk_type"]
    return "scsi" if kind in SCSI_DISKS else {"paravirtual": "virtio"}.get(kind, kind)


def cdrom_bus(params: hv.Params) -> str:
    """The bus of the cdroms; unset, that of the disks if it can have cdroms at all, and IDE beside virtio disks.

    A virtio-blk cdrom is a hard disk to its guest, so that is for those who ask for it.
    """
    kind: str | None = params["cdrom_disk_type"]
    if kind is not None:
        return {"paravirtual": "virtio", "scsi-cd": "scsi"}.get(kind, kind)
    return "scsi" if disk_bus(params) == "scsi" else "ide"


def cdroms_on(params: hv.Params, bus: str) -> int:
    """How many cdroms with an image are on the bus."""
    return sum(params[key] is not None for key in _CDROMS) if cdrom_bus(params) == bus else 0


def needs_scsi(instance: hv.Instance, params: hv.Params) -> bool:
    """Whether anything is behind a SCSI controller."""
    return (disk_bus(params) == "scsi" and bool(instance.disks)) or bool(cdroms_on(params, "scsi"))


def boots_first(params: hv.Params, what: str) -> bool:
    """Whether the firmware boots that first: ``disk``, ``cdrom``, ``floppy`` or ``network``."""
    return bool(params["boot_order"] == what)


def implied_turn(instance: hv.Instance, params: hv.Params) -> str | None:
    """The path of what boots first because boot_order says so; None when it is said there, or is not there.

    A turn that any disk has is what boot_order disk means, and any NIC's what network means; else it is the first
    one's.
    """
    order = params["boot_order"]
    if order in ("cdrom", "floppy"):
        return f"params.{order}_image_path" if params[f"{order}_image_path"] is not None else None
    key, rows = ("disks", instance.disks) if order == "disk" else ("nics", instance.nics)
    return f"{key}[0]" if rows and all(row.boot_index is None for row in rows) else None


def boot_turn(instance: hv.Instance, params: hv.Params, key: str, index: int) -> int | None:
    """The turn of ``disks[index]`` or ``nics[index]`` when the firmware looks for something to boot; None for never."""
    if implied_turn(instance, params) == f"{key}[{index}]":
        return 1
    turn: int | None = getattr(instance, key)[index].boot_index
    return turn
