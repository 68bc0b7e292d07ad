"""The pages of public names, one for each role."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import hvcore
from generator.words import TEXT, WORDS, first_line, signature, table

__all__ = ["ROLES", "Role", "api_page", "public_names"]

_LINE: Final = re.compile(r"^from (\S+) import \w+ as (\w+)$|^(\w+) = ", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Role:
    """One module of public names. ``sections``: heading to the modules whose names it lists."""

    title: str
    text: str
    sections: Mapping[str, tuple[str, ...]]
    with_methods: tuple[str, ...] = ()


ROLES: Final[Mapping[str, Role]] = {
    "hvcore": Role(
        "Names for host applications",
        "api",
        {
            "A node and its drivers": (
                "hvcore.api",
                "hvcore.plugins.catalogue",
                "hvcore.operations",
                "hvcore._version",
            ),
            "Instances and their states": ("hvcore.config", "hvcore.model", "hvcore.host"),
            "Parameters": ("hvcore.params",),
            "New drivers and extensions": ("hvcore.plugins.new_project",),
            "Errors": ("hvcore.errors",),
        },
        ("Node", "Definitions", "DriverHandle", "Plan", "InstanceInfo", "Schema"),
    ),
    "hvcore.plugin": Role(
        "Names for authors of drivers and extensions",
        "api_plugin",
        {
            "Parameters": ("hvcore.params",),
            "Hooks": ("hvcore.plugins.hookspecs", "impl"),
            "Instances, plans and observations": (
                *(
                    "hvcore.model.instance",
                    "hvcore.model.devices",
                    "hvcore.model.plan",
                    "hvcore.model.observation",
                    "hvcore.model.abi",
                    "hvcore.model.answers",
                    "hvcore.model.state",
                    "hvcore.model.tuned",
                    "hvcore.model.events.events",
                    "hvcore.model.events.watched",
                    "hvcore.model.usage",
                    "hvcore.model.upgrade",
                    "hvcore.model.migration.entry",
                    "hvcore.model.migration.transfer",
                ),
            ),
            "The driver and its arguments": (
                *(
                    "hvcore.plugins.protocols",
                    "hvcore.plugins.button_protocols",
                    "hvcore.plugins.device_protocols",
                    "hvcore.plugins.migration_protocols",
                    "hvcore.plugins.hooks",
                    "hvcore.state",
                    "hvcore.host.environment",
                ),
                *("hvcore.model.record", "hvcore.model.codec", "hvcore.frozen", "hvcore.lazy_names", "hvcore.deadline"),
            ),
            "Resources that an instance holds": (
                *("hvcore.model.resource", "hvcore.model.network.guest_network", "hvcore.model.network.egress_rules"),
                *(
                    "hvcore.model.network.node_links",
                    "hvcore.model.network.ovs_bridge",
                    "hvcore.model.network.nic_scripts",
                    "hvcore.model.nic_connection",
                ),
                *("hvcore.resources", "hvcore.model.limits"),
            ),
            "Launching and confining a program": (
                *("hvcore.host.launching", "hvcore.host.confinement", "hvcore.model.sandbox"),
            ),
            "Processes": ("hvcore.host.processes",),
            "Control groups, disks, files, the node": ("hvcore.host",),
            "Errors": ("hvcore.errors", "hvcore.headline"),
        },
        (
            *("Job", "ResourceKind", "Held", "Kinds", "Site", "Live", "Group", "Child", "Hooks", "Host", "Plan"),
            *("Driver", "Pausable", "HasConsole", "Executes", "HasLog", "TakesScreenshots", "HasVncPassword"),
            *("Measures", "Balloons", "ResizesMemory", "ResizesVcpus", "Pinnable"),
            *("Adopts", "NeedsStop", "ReadsSpec", "Examines", "ExaminesWithValues", "Watchable"),
            *("Resets", "PowersDown", "SendsKeys", "SendsNmi"),
        ),
    ),
    "hvcore.testing": Role(
        "Names for tests of drivers",
        "api_testing",
        {"The conformance kit": ("",)},
        ("Subject", "Report"),
    ),
    "hv_kvm.plugin": Role(
        "Names for extensions of kvm",
        "api_kvm",
        {
            "Hooks": ("impl",),
            "The machine and its devices": ("hv_kvm.machine.spec",),
            "Options, also as commands": ("hv_kvm.machine.option",),
            "Features of this QEMU": ("hv_kvm.machine.facts",),
            "Resources, and values of one launch on this node": (*("hv_kvm.machine.resource", "hv_kvm.qmp"),),
            "Types of parameters": ("hv_kvm.devices.shared",),
            "For tests": ("hv_kvm.qemu.boot_sector",),
        },
        ("KvmSpec", "Device", "PciDevice", "Facts", "Opt"),
    ),
}
"""The modules of public names, in the order in which readers meet them."""


def public_names(module: str) -> dict[str, str]:
    """The names of a role, each with its full name where it is defined; ``impl`` unchanged."""
    found = importlib.import_module(module)
    stub = Path(str(found.__file__)).with_suffix(".pyi")
    if not stub.exists():
        return {name: _home(found, name) for name in found.__all__}
    lines = _LINE.findall(stub.read_text(encoding="utf-8"))
    return {
        name or alias: f"{home}.{name}" if home else alias
        for home, name, alias in lines
        if name[:1] != "_" or name[:2] == "__"
    }


def _home(module: ModuleType, name: str) -> str:
    return str(getattr(getattr(module, name), "__module__", module.__name__))


def api_page(module: str) -> str:
    """Every public name of a role with the first words of its docstring, by what it is for."""
    role, found = ROLES[module], importlib.import_module(module)
    parts = [f"# {role.title}", TEXT[role.text].strip()]
    homes = public_names(module)
    left = set(homes)
    for heading, modules in role.sections.items():
        names = sorted(name for name in left if homes[name].startswith(modules))
        left -= set(names)
        rows = ((f"`{_shown(name, getattr(found, name))}`", _what(name, getattr(found, name))) for name in names)
        parts += [f"## {heading}", table(("name", "meaning"), rows)]
        for name in names:
            if name in role.with_methods:
                parts += [f"### {name}", table(("member", "meaning"), _members(getattr(found, name)))]
    if left:
        raise SystemExit(f"docs/generator/api.py: ROLES has no place for {', '.join(sorted(left))} of {module}")
    return "\n\n".join(parts)


def _shown(name: str, thing: Any) -> str:
    """The name, for functions and dataclasses with the arguments."""
    described = inspect.isfunction(thing) or (isinstance(thing, type) and dataclasses.is_dataclass(thing))
    return f"{name}{signature(thing)}" if described else name


def _what(name: str, thing: Any) -> str:
    words = WORDS["names"].get(name)
    if words is None and isinstance(thing, str | int | float | tuple | range):  # its docstring is that of the type
        raise SystemExit(f"docs/words.toml: [names] has no words for {name}, which is a constant")
    words = words or first_line(thing)
    if isinstance(thing, type) and issubclass(thing, Enum):
        names = (str(value.name if isinstance(value, int) else value) for value in thing)  # a number says nothing
        words += f" Values: {', '.join(f'`{name}`' for name in names)}."
    return words


def _attributes(cls: type) -> Iterator[tuple[str, str]]:
    """The public attributes that a class sets when it is made: Python keeps no docstring for them."""
    made = vars(cls).get("__init__")
    if not inspect.isfunction(made) or dataclasses.is_dataclass(cls):
        return
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(made)))):
        match node:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()) if not name.startswith("_"):
                words = WORDS["attributes"].get(f"{cls.__name__}.{name}")
                if words is None:
                    raise SystemExit(f"docs/words.toml: [attributes] has no words for {cls.__name__}.{name}")
                yield f"`.{name}`", words


def _members(cls: type) -> Iterator[tuple[str, str]]:
    if cls is hvcore.Node:
        yield f"`Node{signature(cls)}`", first_line(cls)
    yield from _attributes(cls)
    inherited = {name: member for base in reversed(cls.__mro__[1:]) for name, member in vars(base).items()}
    ours = inherited if cls is hvcore.Node else {}
    for name, member in {
        **vars(cls),
        **{name: member for name, member in ours.items() if name not in vars(cls)},
    }.items():
        if name.startswith("_") or not inspect.getdoc(member) or inspect.ismemberdescriptor(member):
            continue
        if isinstance(member, property):
            yield f"`.{name}`", first_line(member)
        elif inspect.isfunction(member):
            yield f"`.{name}{signature(member)}`", first_line(member)
        elif isinstance(member, classmethod):
            yield f"`.{name}{signature(member.__func__)}`".replace("(cls, ", "("), first_line(member)
