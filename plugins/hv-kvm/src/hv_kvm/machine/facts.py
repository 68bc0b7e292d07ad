"""What one QEMU binary can do, as a frozen value that `hv_kvm.qemu.probe` makes. Pure.

Code decides by the name of a command, an option's parameter or a type, never by the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hvcore.plugin import dataclass

__all__ = ["FACTS_FORMAT", "Facts", "MachineType", "resolve_machine"]

FACTS_FORMAT: Final = 3
"""Version of the JSON form. Raise it when the questions of the probe or the form change: older caches are then ignored."""


# Only for messages, so that an operator knows which QEMU to install. Sources: QEMU's docs/about, its change logs, and
# the recordings in the tests.
_ADDED_IN: Final = {
    "virtio-sound-pci": "8.2",
    "EPYC-Milan": "6.0",
    "SapphireRapids": "8.0",
    "EPYC-Genoa": "8.1",
    "GraniteRapids": "8.1",
    "SierraForest": "9.1",
    "ClearwaterForest": "10.0",
    "YongFeng": "10.0",
}
_REMOVED_IN: Final = {"Icelake-Client": "7.1", "gluster": "11", "sheepdog": "6.0"}


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

    ``version`` and ``package`` are only for messages. ``options`` maps a command-line option to its parameters; QEMU does
    not list options without parameters there (-chroot, -runas, -audio), nor machine properties before 10.0. ``types``
    holds devices, objects, character devices and machines. ``cpu_features`` are all properties of a CPU model, empty if
    unknown. ``block_drivers`` are those that were compiled, possibly
    as a module that is not installed; ``aio`` are the methods of the file driver. ``kvm_present`` is QEMU's answer;
    `hv_kvm.qemu.accelerator` finds out whether a guest really runs.
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
    cpu_features: frozenset[str] = frozenset()

    @property
    def release(self) -> str:
        """The first two numbers of ``version``, such as ``7.2``, for messages and file names."""
        return ".".join(self.version.split(".")[:2])

    def since(self, major: int, minor: int) -> bool:
        """Whether this is that release of QEMU or a later one; only for features that QEMU lists nowhere."""
        numbers = [int(part) for part in self.version.split(".")[:2] if part.isdecimal()]
        return numbers >= [major, minor]

    def has_command(self, command: str) -> bool:
        """Whether QMP has the command."""
        return command in self.commands

    def has_option(self, option: str, parameter: str | None = None) -> bool:
        """Whether the command line has the option (``vnc``), or this parameter of it (``password-secret``)."""
        parameters = self.options.get(option)
        return parameters is not None and (parameter is None or parameter in parameters)

    def has_type(self, name: str) -> bool:
        """Whether there is such a type of device, object or character device."""
        return name in self.types

    def lacks(self, name: str) -> str:
        """The message that this QEMU has no ``name``, with the release that added or removed it, if known."""
        added, removed = _ADDED_IN.get(name), _REMOVED_IN.get(name)
        more = f", which QEMU {added} added" if added else f", which QEMU {removed} removed" if removed else ""
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
            "cpu_features": sorted(self.cpu_features),
            "block_drivers": sorted(self.block_drivers),
            "aio": sorted(self.aio),
            "kvm": [self.kvm_present, self.kvm_enabled],
        }

    @classmethod
    def from_json(cls, body: Any) -> Facts:
        """The inverse of `to_json`. Raises ValueError for anything that `to_json` of this release does not write."""
        try:
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
                cpu_features=_names(body["cpu_features"]),
                block_drivers=_names(body["block_drivers"]),
                aio=_names(body["aio"]),
                kvm_present=kvm_present is True,
                kvm_enabled=kvm_enabled is True,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"facts: not in format {FACTS_FORMAT}: {error}") from None


def resolve_machine(facts: Facts, name: str) -> str | None:
    """The machine type with the name or alias ``name`` in this binary; None if unknown.

    An alias means another machine type in another release. A guest must keep its machine, so its spec has the result.
    """
    return next((machine.name for machine in facts.machines if name in {machine.name, machine.alias}), None)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is not a text")
    return value


def _names(value: Any) -> frozenset[str]:
    names = frozenset(value)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{value!r:.40} is not a list of names")
    return names


def _machine(name: Any, alias: Any, deprecated: Any, is_default: Any, cpu_max: Any) -> MachineType:
    if type(cpu_max) is not int:
        raise TypeError(f"{cpu_max!r:.40} is not a number of vCPUs")
    return MachineType(
        name=_text(name),
        alias=None if alias is None else _text(alias),
        deprecated=deprecated is True,
        is_default=is_default is True,
        cpu_max=cpu_max,
    )
