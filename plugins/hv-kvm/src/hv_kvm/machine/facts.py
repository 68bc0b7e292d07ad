"""What one QEMU binary can do, as a frozen value. Pure: `hv_kvm.qemu.probe` finds it out, everybody else asks it here.

Decisions ask for a command, an option's parameter or a type by name and never for the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["FACTS_FORMAT", "Facts", "MachineType", "default_machine", "resolve_machine"]

FACTS_FORMAT: Final = 2
"""Number of the JSON form. Raise it whenever what is asked or how it is written changes; old caches are then ignored."""


# For people, who have to know which QEMU to install; nothing is decided by them. Sources: QEMU's docs/about, its
# change logs, and the recordings that the tests are made with.
_CAME: Final = {
    "virtio-sound-pci": "8.2",
    "EPYC-Milan": "6.0",
    "SapphireRapids": "8.0",
    "EPYC-Genoa": "8.1",
    "GraniteRapids": "8.1",
    "SierraForest": "9.1",
    "ClearwaterForest": "10.0",
    "YongFeng": "10.0",
}
_WENT: Final = {"Icelake-Client": "7.1", "gluster": "11", "sheepdog": "6.0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineType:
    """One machine type; ``cpu_max`` counts vCPUs, ``alias`` is the short name that moves with the QEMU release."""

    name: str
    alias: str | None
    deprecated: bool
    is_default: bool
    cpu_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a probe found.

    ``version`` and ``package`` are for people only. ``options`` maps a command-line option to its parameters; QEMU does
    not list options without parameters there (-chroot, -runas, -audio), nor machine properties before 10.0. ``types``
    holds devices, objects, character devices and machines alike. ``block_drivers`` are those that were compiled, maybe
    as a module that is not installed; ``aio`` what the file driver can do. ``kvm_present`` is what QEMU believes;
    whether a guest runs is for `hv_kvm.qemu.accelerator`.
    """

    version: str
    package: str
    commands: frozenset[str]
    options: Mapping[str, frozenset[str]]
    machines: tuple[MachineType, ...]
    types: frozenset[str]
    cpu_models: frozenset[str]
    block_drivers: frozenset[str]
    aio: frozenset[str]
    kvm_present: bool
    kvm_enabled: bool

    @property
    def release(self) -> str:
        """``version`` without what is only a correction of it: ``7.2``. For people and for names of files as well."""
        return ".".join(self.version.split(".")[:2])

    def has_command(self, command: str) -> bool:
        """Whether the monitor has that command."""
        return command in self.commands

    def has_option(self, option: str, parameter: str | None = None) -> bool:
        """Whether the command line has that option (``vnc``), or that parameter of it (``password-secret``)."""
        parameters = self.options.get(option)
        return parameters is not None and (parameter is None or parameter in parameters)

    def has_type(self, name: str) -> bool:
        """Whether a device, object or character device of that type can be made."""
        return name in self.types

    def lacks(self, name: str) -> str:
        """That this QEMU has no ``name``, in words, and which release has, where that is known."""
        came, went = _CAME.get(name), _WENT.get(name)
        more = f", which came with release {came}" if came else ""
        more = f", which went with release {went}" if went else more
        return f"this QEMU ({self.version}) has no {name}{more}"

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types, in a stable order."""
        return {
            "format": FACTS_FORMAT,
            "version": self.version,
            "package": self.package,
            "commands": sorted(self.commands),
            "options": {option: sorted(self.options[option]) for option in sorted(self.options)},
            "machines": [
                [machine.name, machine.alias, machine.deprecated, machine.is_default, machine.cpu_max]
                for machine in self.machines
            ],
            "types": sorted(self.types),
            "cpu_models": sorted(self.cpu_models),
            "block_drivers": sorted(self.block_drivers),
            "aio": sorted(self.aio),
            "kvm": [self.kvm_present, self.kvm_enabled],
        }

    @classmethod
    def from_json(cls, body: Any) -> Facts:
        """The inverse of `to_json`. Raises ValueError for anything that `to_json` of this release does not write."""
        try:
            return cls._read(body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"facts: not in format {FACTS_FORMAT}: {error}") from None

    @classmethod
    def _read(cls, body: Any) -> Facts:
        if body["format"] != FACTS_FORMAT:
            raise ValueError(f"format {body['format']!r}")
        kvm_present, kvm_enabled = body["kvm"]
        return cls(
            version=_text(body["version"]),
            package=_text(body["package"]),
            commands=_names(body["commands"]),
            options={_text(option): _names(names) for option, names in body["options"].items()},
            machines=tuple(_machine(*row) for row in body["machines"]),
            types=_names(body["types"]),
            cpu_models=_names(body["cpu_models"]),
            block_drivers=_names(body["block_drivers"]),
            aio=_names(body["aio"]),
            kvm_present=kvm_present is True,
            kvm_enabled=kvm_enabled is True,
        )


def resolve_machine(facts: Facts, name: str) -> str | None:
    """The machine type that ``name`` means in this binary: itself, or what the alias stands for; None if unknown.

    The alias moves with the QEMU release and a guest's machine must not, so the result is what goes into a spec.
    """
    for machine in facts.machines:
        if name in {machine.name, machine.alias}:
            return machine.name
    return None


def default_machine(facts: Facts) -> str | None:
    """The machine type that the binary takes when none is named; None for the targets that have no default."""
    return next((machine.name for machine in facts.machines if machine.is_default), None)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value


def _names(value: Any) -> frozenset[str]:
    names = frozenset(value)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{value!r:.40} is no list of names")
    return names


def _machine(name: Any, alias: Any, deprecated: Any, is_default: Any, cpu_max: Any) -> MachineType:
    if type(cpu_max) is not int:
        raise TypeError(f"{cpu_max!r:.40} is no number of vCPUs")
    return MachineType(
        name=_text(name),
        alias=None if alias is None else _text(alias),
        deprecated=deprecated is True,
        is_default=is_default is True,
        cpu_max=cpu_max,
    )
