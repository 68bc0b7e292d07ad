"""The classes of devices that there are, by the plugins that own them, and a machine read back from its record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import DriverLoadError, HookError, Hooks, decode

__all__ = ["declared", "kinds_of", "read_spec"]

Kinds = Mapping[type[Device], str]
"""Each class with the plugin that declares it."""


def kinds_of(hooks: Hooks) -> Kinds:
    """Every class that a plugin declares. Raises `DriverLoadError` naming both when two have one name.

    By its name a class is known in records, of this release and of later ones.
    """
    found: dict[str, tuple[type[Device], str]] = {}
    for plugin, kind in hooks.items("devices", type):
        if not issubclass(kind, Device):
            raise HookError(plugin=plugin, hook="devices", what=f"gave {kind.__name__}, which is no Device")
        if kind.__name__ in found:
            both = f"{hooks.owner(found[kind.__name__][1])} and {hooks.owner(plugin)}"
            raise DriverLoadError(f"device {kind.__name__!r}: declared by both {both}; rename one")
        found[kind.__name__] = (kind, plugin)
    return dict(found.values())


def declared(devices: Iterable[tuple[str, Device]], kinds: Kinds) -> list[Device]:
    """The devices, each planned by the plugin that declares it. Raises `HookError`: its record could not be read."""
    checked = []
    for plugin, device in devices:
        if kinds.get(type(device)) != plugin:
            what = f"gave {type(device).__name__}, which hook devices of this plugin does not declare"
            raise HookError(plugin=plugin, hook="plan", what=what)
        checked.append(device)
    return checked


def read_spec(data: object, kinds: Kinds) -> KvmSpec:
    """The spec that a record holds. Raises `RecordError`, also when it has a device of a plugin that is missing here."""
    return decode(KvmSpec, data, "spec", kinds=kinds)
