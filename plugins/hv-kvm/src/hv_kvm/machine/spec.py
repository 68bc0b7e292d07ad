"""The machine that the guest sees, decided once: frozen, portable, without anything of this node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from hvcore.plugin import Resource, called_when

__all__ = ["Device", "KvmSpec", "PciDevice", "when_planned"]

D = TypeVar("D", bound="Device")
R = TypeVar("R", bound=Resource[Any])
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Base of everything that a family plans. Subclasses are frozen dataclasses with units in their field names."""

    def resources(self, spec: KvmSpec) -> Iterable[Resource[Any]]:
        """What it holds of its node while the guest runs."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice(Device):
    """A device with a place on the first PCI bus; `hv_kvm.machine.placement` gives it one, once."""

    slot: int = 0

    on_board: ClassVar[bool] = False
    """True for what is part of the machine: it gets a reserved slot, so that disks and NICs keep theirs."""

    @property
    def needs_slot(self) -> bool:
        """False when it turns out to be on another bus."""
        return True

    def address(self, spec: KvmSpec) -> dict[str, bool | int | str | None]:
        """The properties that pin the device to its place. A number would be read differently by QEMU 10."""
        return {"bus": "pcie.0" if spec.q35 else "pci.0", "addr": f"{self.slot:#x}"}


@dataclass(frozen=True, kw_only=True)  # no slots: a start asks for `resources` a dozen times, and they are derived once
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

    def has(self, kinds: tuple[type[Device], ...]) -> bool:
        """Whether there is a device of one of these classes."""
        return any(isinstance(device, kinds) for device in self.devices)

    @cached_property
    def resources(self) -> tuple[Resource[Any], ...]:
        """What all devices hold of their node, in device order."""
        return tuple(resource for device in self.devices for resource in device.resources(self))

    def asks(self, kind: type[R]) -> tuple[R, ...]:
        """The resources of one class, in device order."""
        return tuple(resource for resource in self.resources if isinstance(resource, kind))


def when_planned(*kinds: type[Device]) -> Callable[[F], F]:
    """The implementation of ``verify`` or ``render`` is asked only of a machine with a device of one of these classes."""
    return called_when("spec", lambda spec: spec.has(kinds))
