"""The machine that the guest sees, decided once: frozen, portable, without anything of this node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

__all__ = ["SLOTS", "Device", "KvmSpec", "Open", "PciDevice", "place"]

# The pc machine has its chipset in 0 and 1 and the display in 2; q35 has its own in 0x1f.
FIRST_SLOT: Final = 3
LAST_SLOT: Final = 30
SLOTS: Final = LAST_SLOT - FIRST_SLOT + 1

D = TypeVar("D", bound="Device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A file that is opened for QEMU before it starts, so that the guest's uid needs no right to it.

    ``given_as`` is what the path was set by (``disks[0].path``), for messages. ``claim`` makes the instance its one user on the node; ``direct`` opens it past the page cache.
    """

    name: str
    given_as: str
    path: str
    write: bool
    claim: bool
    direct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Base of everything that a family plans. Subclasses are frozen dataclasses with units in their field names."""

    def opens(self) -> tuple[Open, ...]:
        """Files to open and hand over."""
        return ()

    def shows(self) -> tuple[tuple[str, str], ...]:
        """``(name, path)`` of files that QEMU opens by path itself, read-only."""
        return ()

    def listens_on(self) -> tuple[str, ...]:
        """Names of listening unix sockets in the instance's directory to make and hand over."""
        return ()

    def needs_host_network(self) -> bool:
        """True when QEMU has to speak on the host's network itself."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice(Device):
    """A device with a place on the first PCI bus; `place` gives it one."""

    slot: int = 0

    def takes_slot(self) -> bool:
        """False when it turns out to be on another bus."""
        return True

    def address(self, spec: KvmSpec) -> dict[str, bool | int | str | None]:
        """The properties that pin the device to its place. A number would be read differently by QEMU 10."""
        return {"bus": "pcie.0" if spec.q35 else "pci.0", "addr": f"{self.slot:#x}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmSpec:
    """One guest's machine. ``machine`` is the type asked for until the first start pins what it stands for."""

    name: str
    uuid: str
    machine: str
    qemu: str
    memory_mib: int
    vcpus: int
    kvm: str
    confinement: str
    acpi: bool
    devices: tuple[Device, ...] = ()

    @property
    def q35(self) -> bool:
        """Whether the machine has PCI Express."""
        return "q35" in self.machine

    def of(self, kind: type[D]) -> tuple[D, ...]:
        """The devices of one class, in order."""
        return tuple(device for device in self.devices if isinstance(device, kind))

    @property
    def opens(self) -> tuple[Open, ...]:
        """Every file to open, in device order."""
        return tuple(opened for device in self.devices for opened in device.opens())

    @property
    def shows(self) -> dict[str, str]:
        """Every file that QEMU opens by path, by name."""
        return dict(pair for device in self.devices for pair in device.shows())

    @property
    def sockets(self) -> tuple[str, ...]:
        """Every listening socket to make."""
        return tuple(name for device in self.devices for name in device.listens_on())

    @property
    def host_network(self) -> bool:
        """True when any device needs the host's network."""
        return any(device.needs_host_network() for device in self.devices)


def place(devices: Iterable[Device]) -> tuple[Device, ...]:
    """The devices with PCI slots given out in order. Raises ValueError when there are more than fit."""
    placed: list[Device] = []
    slot = FIRST_SLOT
    for device in devices:
        if isinstance(device, PciDevice) and device.takes_slot():
            if slot > LAST_SLOT:
                msg = f"more than {SLOTS} PCI devices"
                raise ValueError(msg)
            placed.append(replace(device, slot=slot))
            slot += 1
        else:
            placed.append(device)
    return tuple(placed)
