"""The command line from spec, facts and bindings: each plugin's options, in the order of the plugins. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from hv_kvm.machine.facts import Facts
from hv_kvm.machine.option import Opt
from hv_kvm.machine.resource import Bindings
from hv_kvm.machine.spec import Device, KvmSpec
from hvcore.plugin import Argument, HookError, Hooks, Origin

__all__ = ["IdClashError", "arguments", "distinct", "render", "render_device", "rendered"]


class IdClashError(HookError):
    """Two options define one id; ``first`` is the plugin that did so before ``plugin``."""

    def __init__(self, hooks: Hooks, *, plugin: str, first: str, option: str) -> None:
        self.first, self.option = first, option
        places = dict(hooks.places("render"))
        self.both = tuple(f"{hooks.owner(name)} at {places[name]}" for name in (first, plugin))
        what = f"defines {option!r}, which plugin {self.both[0]} defines too"
        super().__init__(plugin=plugin, hook="render", what=what, owner=hooks.owner(plugin), place=places[plugin])


def render(hooks: Hooks, spec: KvmSpec, facts: Facts, bindings: Bindings) -> tuple[Argument, ...]:
    """The command of `arguments` with the options of `rendered`. Pure. Raises `IdClashError`."""
    return arguments(spec, rendered(hooks, spec, facts, bindings))


def rendered(hooks: Hooks, spec: KvmSpec, facts: Facts, bindings: Bindings) -> list[tuple[str, Opt]]:
    """Each plugin's options, with its name, in the order the plugins are registered.

    Pure. Raises `IdClashError` naming both plugins when two options define the same id.
    """
    return list(distinct(hooks, hooks.items("render", Opt, spec=spec, facts=facts, bindings=bindings)))


def arguments(spec: KvmSpec, options: Iterable[tuple[str, Opt]]) -> tuple[Argument, ...]:
    """The command: the binary, then the options. Pure."""
    binary = Origin(plugin="machine", params=("kvm_path",), why="the QEMU binary")
    found = [Argument(tokens=(spec.qemu,), origin=binary)]
    for plugin, option in options:
        origin = Origin(plugin=plugin, params=option.params, why=option.why, capability=option.capability)
        found.append(Argument(tokens=option.argv, origin=origin))
    return tuple(found)


def distinct(hooks: Hooks, options: Iterable[tuple[str, Opt]]) -> Iterator[tuple[str, Opt]]:
    """The options with their plugins, unchanged. Raises `IdClashError` if an option defines an id a second time."""
    defined: dict[str, str] = {}
    for plugin, option in options:
        for name in option.ids:
            if name in defined:
                raise IdClashError(hooks, plugin=plugin, first=defined[name], option=name)
            defined[name] = plugin
        yield plugin, option


def render_device(hooks: Hooks, spec: KvmSpec, facts: Facts, bindings: Bindings, device: Device) -> tuple[Opt, ...]:
    """The options of one device of the machine, as on the command line. Pure.

    Options that its plugin renders for the machine as a whole are left out. `as_command` gives the QMP form of each.
    """
    owner = next(plugin for plugin, kind in hooks.items("devices", type) if kind is type(device))

    def options(devices: tuple[Device, ...]) -> list[Opt]:
        found = hooks.items("render", Opt, spec=replace(spec, devices=devices), facts=facts, bindings=bindings)
        return [option for plugin, option in found if plugin == owner]

    whole = options(())
    return tuple(option for option in options((device,)) if option not in whole)
