"""The machine that the guest sees, as a frozen value that is the same on every node, and its classes of devices. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Final, TypeVar

from hv_kvm.machine.resource import GUEST_USER
from hvcore.plugin import (
    LOG,
    ControlGroup,
    DriverLoadError,
    HookError,
    Hooks,
    OutputHistory,
    Resource,
    called_when,
    dataclass,
    decode,
)

__all__ = [
    "GROUP",
    "LOG_READER",
    "Device",
    "KvmSpec",
    "PciDevice",
    "declared",
    "kinds_of",
    "read_spec",
    "when_planned",
]

D = TypeVar("D", bound="Device")
R = TypeVar("R", bound=Resource[Any])
F = TypeVar("F", bound=Callable[..., Any])

GROUP: Final = ControlGroup(key="cgroup")
"""The control group of a guest, so that the guest outlives the caller's group. Without limits."""
LOG_READER: Final = OutputHistory(key="log.reader", given_by="params.serial_log", owner=GUEST_USER, also=LOG)
"""The program that bounds QEMU's log, if none keeps the output of the serial console, which bounds both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Base class of all devices. Subclasses are frozen dataclasses with units in their field names."""

    @property
    def label(self) -> str:
        """Its name for an operator, and the id of its back end; that of the device ends with ``-dev``. Empty without one."""
        return ""

    def resources(self, spec: KvmSpec) -> Iterable[Resource[Any]]:
        """The resources that the device holds while the guest runs."""
        return ()

    def fixed(self, spec: KvmSpec) -> str | None:
        """Why the device can be neither attached nor detached while the guest runs; None if it can."""
        return "is part of the machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice(Device):
    """A device on the first PCI bus. `hv_kvm.machine.placement` gives it a slot once."""

    slot: int = 0

    on_board: ClassVar[bool] = False
    """Whether the device is part of the machine: it gets a reserved slot, so that disks and NICs keep theirs."""

    @property
    def needs_slot(self) -> bool:
        """Whether the device is on the PCI bus; False for one that its values put on another bus."""
        return True

    def without_hotplug(self, spec: KvmSpec) -> str | None:
        """Why the PCI bus of the machine takes no device while the guest runs; None if it does."""
        if spec.q35:
            return (
                "is on the PCI Express bus of a q35 machine, where QEMU plugs nothing; use a SCSI disk, or machine pc"
            )
        return None if spec.acpi else "needs ACPI to be plugged, and acpi is false"

    def address(self, spec: KvmSpec) -> dict[str, bool | int | str | range | None]:
        """The properties for bus and slot. The slot is text, because QEMU 10 reads a number differently."""
        return {"bus": "pcie.0" if spec.q35 else "pci.0", "addr": f"{self.slot:#x}"}


@dataclass(frozen=True, kw_only=True)  # no slots: a start asks for `resources` a dozen times, and they are derived once
class KvmSpec:
    """One guest's machine. ``machine`` may be an alias until the first start pins it to a machine type."""

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
        """The guest's control group, then the resources of all devices, in device order; and what bounds QEMU's log."""
        found = (GROUP, *(resource for device in self.devices for resource in device.resources(self)))
        bounded = any(isinstance(one, OutputHistory) and one.also == LOG for one in found)
        return found if bounded else (*found, LOG_READER)

    def resources_of(self, kind: type[R]) -> tuple[R, ...]:
        """The resources of one class, in device order."""
        return tuple(resource for resource in self.resources if isinstance(resource, kind))


def when_planned(*kinds: type[Device]) -> Callable[[F], F]:
    """Calls the decorated ``verify`` or ``render`` only for a machine with a device of one of these classes."""
    return called_when("spec", lambda spec: spec.has(kinds))


Kinds = Mapping[type[Device], str]
"""Each class of devices with the plugin that declares it."""


def kinds_of(hooks: Hooks) -> Kinds:
    """Each class with the plugin that declares it. Raises `DriverLoadError` if two classes have one name.

    Records of this and later releases refer to a class by its name.
    """
    found: dict[str, tuple[type[Device], str]] = {}
    for plugin, kind in hooks.items("devices", type):
        if not issubclass(kind, Device):
            raise HookError(plugin=plugin, hook="devices", what=f"gave {kind.__name__}, which is not a Device")
        if kind.__name__ in found:
            both = f"{hooks.owner(found[kind.__name__][1])} and {hooks.owner(plugin)}"
            raise DriverLoadError(f"device {kind.__name__!r}: declared by both {both}; rename one")
        found[kind.__name__] = (kind, plugin)
    return dict(found.values())


def declared(devices: Iterable[tuple[str, Device]], kinds: Kinds) -> list[Device]:
    """The devices. Raises `HookError` for one that its plugin does not declare, because its record could not be read."""
    checked = []
    for plugin, device in devices:
        if kinds.get(type(device)) != plugin:
            what = f"gave {type(device).__name__}, which hook devices of this plugin does not declare"
            raise HookError(plugin=plugin, hook="plan", what=what)
        checked.append(device)
    return checked


def read_spec(data: object, kinds: Kinds) -> KvmSpec:
    """The spec in a record. Raises `RecordError`, also for a device of a plugin that is not installed."""
    return decode(KvmSpec, data, "spec", kinds=kinds)
