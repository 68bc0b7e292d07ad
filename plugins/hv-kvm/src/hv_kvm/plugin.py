"""The entry point of driver ``kvm``: the class, and the families it is made of, in the order of their options."""

from __future__ import annotations

from typing import ClassVar

from hv_kvm import hookspecs
from hv_kvm.devices import (
    agent,
    audio,
    balloon,
    boot,
    cdrom,
    clock,
    cpu,
    disk,
    extra,
    firmware,
    floppy,
    iothread,
    machine,
    memory,
    migration,
    monitor,
    nic,
    rng,
    sandbox,
    scsi,
    security,
    serial,
    spice,
    tpm,
    usb,
    video,
    vnc,
)
from hv_kvm.driver import KvmOperations

__all__ = ["KvmDriver"]


class KvmDriver(KvmOperations):
    """Guests in QEMU, with KVM where it really works, confined by default."""

    name: ClassVar[str] = "kvm"
    hookspecs: ClassVar[tuple[object, ...]] = (hookspecs,)
    plugins: ClassVar[tuple[tuple[str, object], ...]] = (
        ("machine", machine),
        ("cpu", cpu),
        ("memory", memory),
        ("clock", clock),
        ("firmware", firmware),
        ("boot", boot),
        ("monitor", monitor),
        ("serial", serial),
        ("balloon", balloon),
        ("rng", rng),
        ("agent", agent),
        ("iothread", iothread),
        ("scsi", scsi),
        ("disk", disk),
        ("cdrom", cdrom),
        ("floppy", floppy),
        ("nic", nic),
        ("vnc", vnc),
        ("spice", spice),
        ("security", security),
        ("migration", migration),
        ("video", video),
        ("usb", usb),
        ("audio", audio),
        ("tpm", tpm),
        ("sandbox", sandbox),
        ("extra", extra),
    )
