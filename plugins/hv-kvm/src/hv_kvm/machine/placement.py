"""The PCI slots of devices. A device keeps its slot when other devices are added. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from hv_kvm.machine.spec import Device, KvmSpec, PciDevice
from hvcore.plugin import Instance

__all__ = ["FIRST_SLOT", "LAST_SLOT", "decide", "display_address", "place", "placed_beside"]

# A pc machine has its chipset in slots 0 and 1 and the display in 2. A q35 machine has them in 0x1f and 1.
FIRST_SLOT: Final = 3
LAST_SLOT: Final = 30


def decide(instance: Instance, params: Mapping[str, Any], devices: Iterable[Device]) -> KvmSpec:
    """The machine of an instance with these devices, in their slots. Raises ValueError if they do not all fit."""
    return KvmSpec(
        name=instance.name,
        uuid=instance.uuid,
        machine=params["machine_version"],
        qemu=params["kvm_path"],
        memory_mib=instance.memory_mib,
        vcpus=instance.vcpus,
        kvm=params["kvm_flag"] or "auto",
        confinement=params["confinement"],
        acpi=params["acpi"],
        devices=place(devices, reserved=params["kvm_pci_reservations"]),
    )


def place(devices: Iterable[Device], *, reserved: int = FIRST_SLOT) -> tuple[Device, ...]:
    """The devices with PCI slots, in order from slot ``reserved``; devices on board get the slots before it.

    Raises ValueError if they do not all fit.
    """
    placed, taken = list(devices), set[int]()
    # Disks and NICs come first: they must not move when the machine gets another device.
    for on_board in (False, True):
        for index, device in enumerate(placed):
            if isinstance(device, PciDevice) and device.on_board is on_board:
                in_slot = placed[index] = _in_free_slot(device, taken, reserved)
                taken.add(in_slot.slot)
    return tuple(placed)


def placed_beside(spec: KvmSpec, device: Device, *, reserved: int = FIRST_SLOT, taken: Collection[int] = ()) -> KvmSpec:
    """The machine with one more device, in the first free slot. No other device moves.

    ``taken`` are slots that QEMU uses besides those of the machine. Raises ValueError if no slot is free.
    """
    if isinstance(device, PciDevice):
        device = _in_free_slot(device, {*taken, *(other.slot for other in spec.of(PciDevice))}, reserved)
    return replace(spec, devices=(*spec.devices, device))


def _in_free_slot(device: PciDevice, taken: set[int], reserved: int) -> PciDevice:
    if not device.needs_slot:
        return device
    slots = range(max(FIRST_SLOT, 0 if device.on_board else reserved), LAST_SLOT + 1)
    slot = next((slot for slot in slots if slot not in taken), None)
    if slot is None:
        raise ValueError(f"more PCI devices than the {len(slots)} slots for them")
    return replace(device, slot=slot)


def display_address(spec: KvmSpec) -> dict[str, bool | int | str | range | None]:
    """The slot of the graphics card, where QEMU itself would put it: 2 on pc, 1 on q35."""
    return {"bus": "pcie.0", "addr": "0x1"} if spec.q35 else {"bus": "pci.0", "addr": "0x2"}
