"""Loading one driver by name, with its extensions: stevedore finds it, pluggy registers its hooks.

Their defaults disagree and are silent about duplicates and unknown hooks (docs/decisions/0001), so
everything that could go wrong is decided here and named with plugin, distribution and version.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pluggy

from hvcore.errors import DriverLoadError, UnknownDriverError
from hvcore.params import ParamGroup, Schema
from hvcore.plugins import hookspecs
from hvcore.plugins.catalogue import DRIVERS_GROUP, EXTENSIONS_GROUP, CatalogueEntry, Verdict, installed
from hvcore.plugins.faults import article, class_faults, hook_faults, near, place
from hvcore.plugins.hooks import Hooks
from hvcore.plugins.importing import attempt, imported, owner_of, refused
from hvcore.plugins.loaded_driver import LoadedDriver

__all__ = ["load"]


def load(name: str, *, without_broken: bool = False) -> LoadedDriver:
    """Import one driver and its extensions. Raises `UnknownDriverError` or `DriverLoadError`, saying whose fault it is.

    With ``without_broken`` an extension that cannot be used is left out and named in ``skipped``: what runs already can
    still be seen and stopped. Nothing may be started that way.
    """
    found = installed(DRIVERS_GROUP, EXTENSIONS_GROUP)
    entry = _find(name, found[DRIVERS_GROUP])
    driver_class = _driver_class(attempt("driver", entry, partial(imported, DRIVERS_GROUP, entry)), entry)
    manager = _Manager(hookspecs.PROJECT)
    for specs in (hookspecs, *driver_class.hookspecs):
        manager.add_hookspecs(specs)
    owners: dict[str, str] = {}
    for plugin_name, plugin in driver_class.plugins:
        _register(manager, owners, plugin_name, plugin, entry)
    extensions = tuple(item for item in found[EXTENSIONS_GROUP] if item.name.split(".", 1)[0] == name)
    skipped = _register_extensions(manager, owners, extensions, without_broken=without_broken)
    hooks = Hooks(manager, owners)
    # Without an extension, what runs has been checked; the parameters of what is missing could not be judged anyway.
    groups = (
        [] if skipped else [(owners[plugin], _group(hooks, plugin, group)) for plugin, group in hooks.each("params")]
    )
    return LoadedDriver(
        entry=entry,
        driver=attempt("driver", entry, partial(driver_class, hooks)),
        hooks=hooks,
        schema=_schema(hooks, groups),
        extensions=extensions,
        skipped=skipped,
    )


class _Manager(pluggy.PluginManager):
    """pluggy looks at each name of a plugin with `inspect.getattr_static`; of a module most are nothing to it."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """The marks of an implementation, None for what is none."""
        if not hasattr(getattr(plugin, name, None), f"{self.project_name}_impl"):
            return None
        return super().parse_hookimpl_opts(plugin, name)


def _register_extensions(
    manager: pluggy.PluginManager,
    owners: dict[str, str],
    extensions: tuple[CatalogueEntry, ...],
    *,
    without_broken: bool,
) -> tuple[str, ...]:
    """Register them all, or with ``without_broken`` those that can be; what is wrong with the others."""
    skipped = []
    for extension in extensions:
        try:
            _register(manager, owners, extension.name, _extension(extension), extension)
        except DriverLoadError as error:
            if not without_broken:
                raise
            skipped.append(str(error))
            if manager.has_plugin(extension.name):
                manager.unregister(name=extension.name)
    return tuple(skipped)


def _find(name: str, everything: Sequence[CatalogueEntry]) -> CatalogueEntry:
    found = [entry for entry in everything if entry.name == name]
    if not found:
        names = sorted({entry.name for entry in everything if entry.verdict is Verdict.OK})
        refused = [f"{entry.name} ({entry.verdict})" for entry in everything if entry.verdict is not Verdict.OK]
        hint = near(name, names) or "see hv drivers"
        also = f"; refused: {', '.join(refused)}" if refused else ""
        raise UnknownDriverError(f"no driver {name!r:.80}; installed: {', '.join(names) or 'none'}{also}; {hint}")
    if found[0].verdict is not Verdict.OK:
        raise DriverLoadError(f"driver {name} ({found[0].distribution} {found[0].version}): {found[0].reason}")
    return found[0]


def _driver_class(found: Any, entry: CatalogueEntry) -> Any:
    subject = f"driver {owner_of(entry)}"
    if not isinstance(found, type):
        raise DriverLoadError(
            f"{subject}: {entry.target} is {_kind(found)}, not a class; {_name_a_class(found, entry)}"
        )
    faults: list[str] = attempt("driver", entry, partial(class_faults, found))  # its class may have a class of its own
    name: object = getattr(found, "name", entry.name)
    if name != entry.name:
        faults.append(f"its class is named {name!r}; make it equal to the entry point, {entry.name!r}")
    if faults:
        raise refused(f"{subject}: class {entry.target} ({place(found)})", faults)
    return found


def _kind(found: object) -> str:
    if inspect.ismodule(found):
        return "a module"
    return "a function" if inspect.isroutine(found) else article(type(found))


def _name_a_class(found: object, entry: CatalogueEntry) -> str:
    module = inspect.getmodule(found)
    inside: Iterable[tuple[str, object]] = vars(module).items() if module is not None else ()
    known = [name for name, item in inside if isinstance(item, type) and getattr(item, "name", None) == entry.name]
    target = f"{entry.target.partition(':')[0]}:{known[0] if known else 'CLASS'}"
    return f"write {entry.name} = {target!r} under {DRIVERS_GROUP}"


def _register(
    manager: pluggy.PluginManager, owners: dict[str, str], name: str, plugin: object, entry: CatalogueEntry
) -> None:
    owner = f"{name} ({entry.distribution} {entry.version})"
    specs = {hook: item.spec.function for hook, item in vars(manager.hook).items() if item.has_spec()}
    faults = hook_faults(plugin, specs)
    if faults:
        raise refused(f"plugin {owner}", faults)
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise DriverLoadError(f"plugin {owner}: {' '.join(str(error).split())}; report this to its authors") from error
    owners[name] = owner


def _extension(entry: CatalogueEntry) -> object:
    if entry.verdict is not Verdict.OK:
        raise DriverLoadError(f"extension {owner_of(entry)}: {entry.reason}")

    def made() -> object:
        found = imported(EXTENSIONS_GROUP, entry)
        return found() if isinstance(found, type) else found

    return attempt("extension", entry, made)


def _schema(hooks: Hooks, groups: Sequence[tuple[str, ParamGroup]]) -> Schema:
    try:
        return Schema.compile(groups)
    except DriverLoadError as error:  # two that declare one key, by their owners: say where, too
        told = str(error)
        places = [place(function) for name, function in hooks.functions("params") if hooks.owner(name) in told]
        raise DriverLoadError(f"{told} ({', '.join(places)})") from error


def _group(hooks: Hooks, plugin: str, group: object) -> ParamGroup:
    if isinstance(group, ParamGroup):
        return group
    where = next(place(function) for name, function in hooks.functions("params") if name == plugin)
    what = f"returned {group!r:.80}; return an hvcore.ParamGroup"
    raise DriverLoadError(f"plugin {hooks.owner(plugin)}, hook params ({where}): {what}")
