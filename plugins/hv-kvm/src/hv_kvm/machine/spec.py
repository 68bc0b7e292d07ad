"""The machine that the guest sees, decided once: frozen, portable, without anything of this node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from hvcore.plugin import Instance, Problem

__all__ = [
    "FIRST_SLOT",
    "LAST_SLOT",
    "Companion",
    "Device",
    "Handed",
    "Interface",
    "KvmSpec",
    "Open",
    "PciDevice",
    "Port",
    "Temporary",
    "decide",
    "display_address",
    "place",
]

# The pc machine has its chipset in 0 and 1 and the display in 2; q35 has its own in 0x1f and the display in 1.
FIRST_SLOT: Final = 3
LAST_SLOT: Final = 30

D = TypeVar("D", bound="Device")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A file that is opened for QEMU before it starts, so that the guest's uid needs no right to it.

    ``given_as`` is what the path was set by (``disks[0].path``), for messages. ``claim`` makes the instance its one
    user on the node; ``direct`` opens it past the page cache. ``kind`` is what it has to be: ``image`` (a file or a
    block device), ``block`` or ``sg`` (a SCSI generic device). ``format`` is what has to be in it. A file with a
    ``template`` is copied from that when it is not there.
    """

    name: str
    given_as: str = ""
    path: str
    write: bool
    claim: bool
    direct: bool = False
    kind: str = "image"
    format: str = "raw"
    template: str | None = None

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return self.given_as or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Temporary:
    """A file without a name in ``directory``, of ``size_mib``, for QEMU alone: it goes when the last user does."""

    name: str
    directory: str
    size_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A file that only QEMU is to read: a copy of it in the guest's directory, 0400, gone once QEMU has read it.

    ``name`` is where it is there and ``param`` which parameter it follows from. Of a password (``password_bytes``
    is how long it may be) the copy has the first line and nothing after it. One that is ``optional`` need not exist.
    """

    name: str
    path: str
    param: str
    password_bytes: int | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A program of the node beside QEMU, which speaks with it over a pair of sockets made before both, and ends with it.

    In ``arguments``, ``{fd}`` stands for its end of the pair and ``{state}`` for ``directory``, the only place it may
    write to. Nothing may be in there but ``lock``, by which the instance claims it, and files that begin with one of
    ``keeps``. ``param`` is where ``directory`` comes from, ``binary_param`` the same of the program and ``package``
    what has that on Debian. ``seccomp`` says that the program installs a filter itself, which is proved.
    """

    name: str
    binary: str
    binary_param: str
    package: str
    arguments: tuple[str, ...]
    directory: str
    param: str
    lock: str
    keeps: tuple[str, ...]
    seccomp: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface of the node that stands for its address; ``family`` 4 or 6, or 0 for the first it has."""

    name: str
    param: str
    family: int = 0

    @property
    def key(self) -> str:
        """By what `Bindings.addresses` has its address."""
        return f"{self.name}/{self.family}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A TCP port of the node to serve ``name`` on: ``port``, or when that is None the first free one from ``first`` on."""

    name: str
    bind: str
    port: int | None
    first: int
    param: str


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

    def claims(self) -> tuple[tuple[str, bool], ...]:
        """``(URI, whether it is written to)`` of each disk that no path of the node leads to, in one form for all its names."""
        return ()

    def needs_host_network(self) -> bool:
        """True when QEMU has to speak on the node's network itself."""
        return False

    def handed(self) -> tuple[Handed, ...]:
        """Files whose contents only QEMU gets."""
        return ()

    def interfaces(self) -> tuple[Interface, ...]:
        """Interfaces of the node whose addresses are looked up when it is launched."""
        return ()

    def ports(self) -> tuple[Port, ...]:
        """Ports of the node to choose when it is launched."""
        return ()

    def data_files(self) -> tuple[tuple[str, str], ...]:
        """``(parameter, path)`` of files that QEMU brings itself, below its directory of data."""
        return ()

    def companions(self) -> tuple[Companion, ...]:
        """Programs to start before QEMU."""
        return ()

    def refusals(self) -> tuple[Problem, ...]:
        """What of it this release can check and render, and not yet do: each keeps the guest from being started."""
        return ()

    def temporaries(self) -> tuple[Temporary, ...]:
        """Files without a name to make and hand over."""
        return ()

    def escapes(self) -> tuple[tuple[str, str], ...]:
        """``(path of the parameter, reason)`` for each thing that cannot work inside the sandbox."""
        return ()

    def modules(self) -> tuple[tuple[str, str], ...]:
        """``(path of the parameter, block driver)`` for what QEMU may have in a module that is not installed."""
        return ()

    def needs_kvm(self) -> str | None:
        """The path of the parameter that software emulation cannot serve."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PciDevice(Device):
    """A device with a place on the first PCI bus; `place` gives it one."""

    slot: int = 0

    def takes_slot(self) -> bool:
        """False when it turns out to be on another bus."""
        return True

    def on_board(self) -> bool:
        """True for what is part of the machine: it gets a reserved slot, so that disks and NICs keep theirs."""
        return False

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
    def temporaries(self) -> tuple[Temporary, ...]:
        """Every file without a name to make."""
        return tuple(made for device in self.devices for made in device.temporaries())

    @property
    def companions(self) -> tuple[Companion, ...]:
        """Every program to start before QEMU."""
        return tuple(companion for device in self.devices for companion in device.companions())

    @property
    def host_network(self) -> bool:
        """True when any device needs the node's network."""
        return any(device.needs_host_network() for device in self.devices)

    def each(self, ask: Callable[[Device], tuple[T, ...]]) -> tuple[T, ...]:
        """What every device answers, in device order: ``spec.each(lambda device: device.handed())``."""
        return tuple(answer for device in self.devices for answer in ask(device))


def display_address(spec: KvmSpec) -> dict[str, bool | int | str | None]:
    """The place of the one graphics card: slot 2 as QEMU itself does it on pc, slot 1 on q35."""
    return {"bus": "pcie.0", "addr": "0x1"} if spec.q35 else {"bus": "pci.0", "addr": "0x2"}


def place(devices: Iterable[Device], *, reserved: int = FIRST_SLOT) -> tuple[Device, ...]:
    """The devices with PCI slots given out in order, from slot ``reserved`` on; what is on board gets those before.

    Raises ValueError when there are more than fit.
    """
    placed = list(devices)
    free = list(range(FIRST_SLOT, LAST_SLOT + 1))
    # What the instance lists comes first: it shall not move because the machine gets one device more.
    for on_board in (False, True):
        least = max(FIRST_SLOT, 0 if on_board else reserved)
        for index, device in enumerate(placed):
            if isinstance(device, PciDevice) and device.takes_slot() and device.on_board() is on_board:
                slot = next((slot for slot in free if slot >= least), None)
                if slot is None:
                    msg = f"more PCI devices than the {max(0, LAST_SLOT + 1 - least)} slots that there are for them"
                    raise ValueError(msg)
                free.remove(slot)
                placed[index] = replace(device, slot=slot)
    return tuple(placed)


def decide(instance: Instance, params: Mapping[str, Any], devices: Iterable[Device]) -> KvmSpec:
    """The machine of an instance with these devices, each in its place. Raises ValueError when they do not all fit."""
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
