"""An examination of the installation: plugins, deprecated parameters, the node, its run directory, leftovers.

Changes nothing. Every problem becomes a `Finding`, not an exception.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final

from hvcore._version import __version__
from hvcore.api.driver_handle import DriverHandle
from hvcore.api.node import LOAD_S, Node
from hvcore.errors import HvError, NodeError
from hvcore.host.abilities import abilities
from hvcore.host.network_abilities import network_abilities
from hvcore.model.answers import Finding, Severity
from hvcore.model.instance import Instance
from hvcore.operations.context import Context
from hvcore.operations.inspection.leftovers import leftovers, permissions
from hvcore.plugins import requirements
from hvcore.plugins.catalogue import EXTENSIONS_GROUP, CatalogueEntry, Verdict, catalogue

__all__ = ["examine"]

_LIBRARIES: Final = ("packaging", "pluggy", "stevedore", "voluptuous")


def examine(
    run_dir: str | os.PathLike[str] | None = None,
    *,
    config_dir: str | os.PathLike[str] | None = None,
    load_s: float = LOAD_S,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Finding, ...]:
    """All findings about hvcore on this node, area by area. The arguments are those of `Node`.

    Runs bubblewrap and loads every driver, and each driver examines the node (`Examines`). Without a cache this takes
    seconds. ``progress`` gets the name of each driver before it is imported, because an import can hang.
    """
    findings = [*_in("versions", _versions()), *_in("plugins", _plugins())]
    try:
        node = Node(run_dir, config_dir=config_dir, load_s=load_s)
    except NodeError as error:
        wrong = Finding(subject="run directory", severity=Severity.PROBLEM, what=str(error))
        return (*findings, *_in("run directory", [wrong]))
    context = node._context  # noqa: SLF001 - the same package; private to others
    findings += _in("node", abilities(context.host))
    findings += _in("networks", network_abilities(context.host))
    findings += _in("run directory", permissions(context.host.run_dir))
    findings += _in("leftovers", leftovers(context))
    for entry in catalogue():
        if entry.verdict is Verdict.OK:
            progress(f"driver {entry.name} ({entry.distribution}) and its extensions")
            findings += _in(f"driver {entry.name}", _driver(node, context, entry))
    return tuple(findings)


def _in(area: str, findings: Iterable[Finding]) -> list[Finding]:
    found = []
    try:
        for finding in findings:
            found.append(replace(finding, area=area))  # noqa: PERF401 - findings before an error are kept
    except (HvError, OSError) as error:
        found.append(Finding(area=area, subject="examined", severity=Severity.PROBLEM, what=f"stopped early: {error}"))
    return found


def _versions() -> Iterator[Finding]:
    yield Finding(subject="hvcore", severity=Severity.OK, what=f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding(subject="python", severity=Severity.OK, what=platform.python_version())
    for name in _LIBRARIES:
        yield Finding(subject=name, severity=Severity.OK, what=metadata.version(name))


def _plugins() -> Iterator[Finding]:
    drivers = {entry.name for entry in catalogue()}
    if not drivers:
        what = "no driver is installed"
        yield Finding(subject="drivers", severity=Severity.NOTE, what=what, todo="install one, such as hv-kvm")
    for entry in catalogue():
        yield _plugin("driver", entry)
    for entry in catalogue(EXTENSIONS_GROUP):
        driver = entry.name.partition(".")[0]
        if driver in drivers:
            yield _plugin("extension", entry)
        else:
            what = f"{entry.distribution} {entry.version} extends {driver}, which is not installed"
            todo = f"install driver {driver}, or uninstall {entry.distribution}"
            yield Finding(subject=f"extension {entry.name}", severity=Severity.NOTE, what=what, todo=todo)


def _plugin(kind: str, entry: CatalogueEntry) -> Finding:
    subject, home = f"{kind} {entry.name}", f"{entry.distribution} {entry.version}"
    if entry.verdict is not Verdict.OK:
        severity = Severity.NOTE if entry.verdict is Verdict.BLOCKED else Severity.PROBLEM
        return Finding(subject=subject, severity=severity, what=f"{home}: {entry.verdict}, {entry.reason}")
    missing = requirements.missing(entry.distribution)
    if missing:
        what = f"{home} requires {', '.join(missing)}; not installed, or in another version"
        todo = f"pip install {' '.join(repr(line) for line in missing)}"
        return Finding(subject=subject, severity=Severity.PROBLEM, what=what, todo=todo)
    return Finding(subject=subject, severity=Severity.OK, what=home)


def _driver(node: Node, context: Context, entry: CatalogueEntry) -> Iterator[Finding]:
    try:
        handle = node.driver(entry.name)
    except HvError as error:
        yield Finding(subject="load", severity=Severity.PROBLEM, what=str(error))
        return
    can = ", ".join(["start", "stop", *handle.capabilities])
    yield Finding(subject="load", severity=Severity.OK, what=f"{len(handle.schema.params)} parameters; it can {can}")
    yield from handle.examine()
    yield from _deprecated(context, handle)


def _deprecated(context: Context, handle: DriverHandle) -> Iterator[Finding]:
    """Deprecated parameters that this node or one of its instances sets."""
    params = handle.schema.params.items()
    deprecations = {key: param.deprecation for key, param in params if param.deprecation is not None}
    for subject, instance in _instances_of(context, handle.name) if deprecations else ():
        tables = [layer.values for layer in context.layers(instance).layers if isinstance(layer.values, Mapping)]
        for key in sorted(deprecations.keys() & {key for table in (instance.params, *tables) for key in table}):
            yield Finding(subject=f"{subject}: {key}", severity=Severity.NOTE, what=str(deprecations[key]))


def _instances_of(context: Context, driver: str) -> Iterator[tuple[str, Instance]]:
    yield "all instances of this node", Instance(name="none", driver=driver)
    for name in context.store.names():
        with suppress(HvError):  # the leftovers report a damaged record
            record = context.store.load(name)
            if record is not None and record.driver == driver:
                yield name, record.instance
