"""The page of public names."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Final

import hvcore
from generator.words import TEXT, WORDS, first_line, signature, table

__all__ = ["SECTIONS", "api_page"]


# By the module that defines a name: where a reader looks for it.
SECTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "For host applications": (
        "hvcore.api.node",
        "hvcore.api.driver_handle",
        "hvcore.api.doctor",
        "hvcore.model.finding",
        "hvcore.plugins.catalogue",
        "hvcore.config.instance_file",
        "hvcore.config.node_config",
        "hvcore.model.instance",
        "hvcore.model.info",
        "hvcore.model.outcome",
        "hvcore.model.plan",
        "hvcore.model.state",
        "hvcore._version",
    ),
    "Parameters": ("hvcore.params",),
    "Extensions: hooks": ("hvcore.plugins.hookspecs",),
    "Drivers: what one is, and what it is given": (
        "hvcore.plugins.protocols",
        "hvcore.state.job",
        "hvcore.state.live",
        "hvcore.plugins.hooks",
        "hvcore.host.environment",
        "hvcore.plugins.new_project",
        "hvcore.model.record",
        "hvcore.model.codec",
    ),
    "Drivers: launching and confining a program": (
        "hvcore.host.launching.launch",  # and launched
        "hvcore.host.confinement.bubblewrap",
        "hvcore.host.confinement.sandbox",
        "hvcore.host.confinement.proof",
        "hvcore.host.confinement.capabilities",
        "hvcore.host.launching.rlimits",
        "hvcore.host.confinement.namespaces",
        "hvcore.host.confinement.own_root",
    ),
    "Drivers: processes": ("hvcore.host.processes.process",),
    "Drivers: control groups, disks, files, the node": ("hvcore.host",),
    "Errors": ("hvcore.errors",),
}
_HOMES: Final = {
    **dict.fromkeys(
        ("CGROUP", "COMPANION", "DISK", "LIFE_LOCK", "LINK", "LOG", "MOUNT", "PROCESS", "STATUS", "UID", "UID_RANGE"),
        "hvcore.state.job",
    ),
    "impl": "hvcore.plugins.hookspecs",
    "CAPABILITIES": "hvcore.host.confinement.capabilities",
    "UID_RANGE_SIZE": "hvcore.host.confinement.namespaces",
    **dict.fromkeys(("hookimpl", "hookspec"), "hvcore.plugins.hookspecs"),
    "__version__": "hvcore._version",
}
_WITH_METHODS: Final = (
    *("Node", "DriverHandle", "Plan", "InstanceInfo", "Schema", "Job", "Live", "Group", "Child", "Hooks", "Host"),
    *(
        "Driver",
        "Pausable",
        "HasConsole",
        "Executes",
        "HasLog",
        "Adopts",
        "OwesStop",
        "ReadsSpec",
        "Releases",
        "Examines",
    ),
)


def api_page() -> str:
    """Every public name with the first words of its docstring, by who needs it."""
    parts = [
        "# Public names",
        TEXT["api"],
    ]
    left = set(hvcore.__all__)
    for heading, modules in SECTIONS.items():
        names = sorted(name for name in left if _home(name).startswith(modules))
        left -= set(names)
        parts += [f"## {heading}", table(("name", "what"), ((f"`{_shown(name)}`", _what(name)) for name in names))]
        for name in names:
            if name in _WITH_METHODS:
                parts += [f"### {name}", table(("member", "what"), _members(getattr(hvcore, name)))]
    if left:
        raise SystemExit(f"docs/generator/api.py: SECTIONS has no place for {', '.join(sorted(left))}")
    return "\n\n".join(parts)


def _home(name: str) -> str:
    return _HOMES.get(name) or str(getattr(hvcore, name).__module__)


def _shown(name: str) -> str:
    """The name; of functions and dataclasses with what they take."""
    thing = getattr(hvcore, name)
    return f"{name}{signature(thing)}" if inspect.isfunction(thing) or dataclasses.is_dataclass(thing) else name


def _what(name: str) -> str:
    words = WORDS["names"].get(name) or first_line(getattr(hvcore, name))
    thing = getattr(hvcore, name)
    if isinstance(thing, type(hvcore.State)):
        words += f" Values: {', '.join(f'`{value}`' for value in thing)}."
    return words


def _members(cls: type) -> Iterator[tuple[str, str]]:
    if cls is hvcore.Node:
        yield f"`Node{signature(cls)}`", first_line(cls)
    for name, member in vars(cls).items():
        if name.startswith("_") or not inspect.getdoc(member) or inspect.ismemberdescriptor(member):
            continue
        if isinstance(member, property):
            yield f"`.{name}`", first_line(member)
        elif inspect.isfunction(member):
            yield f"`.{name}{signature(member)}`", first_line(member)
        elif isinstance(member, classmethod):
            yield f"`.{name}{signature(member.__func__)}`".replace("(cls, ", "("), first_line(member)
