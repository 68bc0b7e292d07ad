"""Loading one driver by name, with its extensions: stevedore imports it, pluggy registers its hooks.

Their defaults disagree and ignore duplicates and unknown hooks (docs/decisions/0001). So this module checks everything
first, and names plugin, distribution and version in each error.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import pluggy

from hvcore.errors import DriverLoadError, HvError, UnknownDriverError
from hvcore.params.param import ParamGroup
from hvcore.params.schema import Schema
from hvcore.plugins import hookspecs
from hvcore.plugins.catalogue import DRIVERS_GROUP, EXTENSIONS_GROUP, CatalogueEntry, Verdict, installed
from hvcore.plugins.faults import article, class_faults, hook_faults, near, place
from hvcore.plugins.hooks import Hooks
from hvcore.plugins.importing import attempt, imported, owner_of, refused, within
from hvcore.plugins.loaded_driver import LoadedDriver

__all__ = ["load", "load_for_running"]

_Plugin = tuple[CatalogueEntry, object]


def load(name: str, *, limit_s: float = 30.0) -> LoadedDriver:
    """Import one driver and its extensions. Raises `UnknownDriverError`, or `DriverLoadError` with the plugin at fault.

    Waits at most ``limit_s`` seconds for each of three steps: the driver's import, each extension's, and their hooks.
    """
    entry, driver_class, extensions = _found(name, limit_s)
    plugins = [(extension, _extension(extension, limit_s)) for extension in extensions]
    return within(limit_s, "driver", entry, partial(_assembled, entry, driver_class, extensions, plugins))


def load_for_running(name: str, *, limit_s: float) -> LoadedDriver:
    """Like `load`, but leave out extensions that cannot be used, and name them in ``skipped``. Only for running instances.

    They can then still be observed and stopped.
    """
    entry, driver_class, extensions = _found(name, limit_s)
    plugins, skipped = [], []
    for extension in extensions:
        try:
            plugins.append((extension, _extension(extension, limit_s)))
        except DriverLoadError as error:
            skipped.append(str(error))
    assemble = partial(_assembled, entry, driver_class, extensions)
    try:
        return within(limit_s, "driver", entry, partial(assemble, plugins, tuple(skipped)))
    except HvError:
        usable: list[_Plugin] = []
        for plugin in plugins:
            try:
                within(limit_s, "extension", plugin[0], partial(assemble, [*usable, plugin]))
            except HvError as error:
                owner = owner_of(plugin[0])
                skipped.append(str(error) if owner in str(error) else f"extension {owner}: {error}")
            else:
                usable.append(plugin)
        return within(limit_s, "driver", entry, partial(assemble, usable, tuple(skipped)))


def _found(name: str, limit_s: float) -> tuple[CatalogueEntry, Any, tuple[CatalogueEntry, ...]]:
    """The driver's catalogue entry, its class, and the entries of its extensions."""
    found = installed(DRIVERS_GROUP, EXTENSIONS_GROUP)
    entry = _find(name, found[DRIVERS_GROUP])

    def made() -> Any:
        return _driver_class(attempt("driver", entry, partial(imported, DRIVERS_GROUP, entry)), entry)

    driver_class = within(limit_s, "driver", entry, made)
    return entry, driver_class, tuple(item for item in found[EXTENSIONS_GROUP] if item.name.split(".", 1)[0] == name)


def _assembled(
    entry: CatalogueEntry,
    driver_class: Any,
    extensions: tuple[CatalogueEntry, ...],
    plugins: Sequence[_Plugin],
    skipped: tuple[str, ...] = (),
) -> LoadedDriver:
    """The driver with these extensions. Raises `HvError` if the driver or one of them has a mistake."""
    manager = _Manager(hookspecs.PROJECT)
    for specs in (hookspecs, *driver_class.hookspecs):
        manager.add_hookspecs(specs)
    owners: dict[str, str] = {}
    for plugin_name, plugin in driver_class.plugins:
        _register(manager, owners, plugin_name, plugin, entry)
    for extension, plugin in plugins:
        _register(manager, owners, extension.name, plugin, extension)
    hooks = Hooks(manager, owners)
    groups = list(hooks.each("params"))
    return LoadedDriver(
        entry=entry,
        driver=attempt("driver", entry, partial(driver_class, hooks)),
        hooks=hooks,
        schema=_schema(hooks, groups),
        extensions=extensions,
        skipped=skipped,
    )


class _Manager(pluggy.PluginManager):
    """Skips names without marks, for which pluggy's own `inspect.getattr_static` is slow."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """The marks of an implementation; None for any other name."""
        if not hasattr(getattr(plugin, name, None), f"{self.project_name}_impl"):
            return None
        return super().parse_hookimpl_opts(plugin, name)


def _find(name: str, everything: Sequence[CatalogueEntry]) -> CatalogueEntry:
    found = [entry for entry in everything if entry.name == name]
    if not found:
        names = sorted({entry.name for entry in everything if entry.verdict is Verdict.OK})
        refused = [f"{entry.name} ({entry.verdict})" for entry in everything if entry.verdict is not Verdict.OK]
        hint = near(name, names) or "see hv drivers"
        also = f"; refused: {', '.join(refused)}" if refused else ""
        what = f"no driver {name!r:.80}; installed: {', '.join(names) or 'none'}{also}; {hint}"
        raise UnknownDriverError(what, driver=name)
    if found[0].verdict is not Verdict.OK:
        raise DriverLoadError(f"driver {owner_of(found[0])}: {found[0].reason}")
    return found[0]


def _driver_class(found: Any, entry: CatalogueEntry) -> Any:
    subject = f"driver {owner_of(entry)}"
    if not isinstance(found, type):
        kind = (
            "a module"
            if inspect.ismodule(found)
            else "a function"
            if inspect.isroutine(found)
            else article(type(found))
        )
        raise DriverLoadError(f"{subject}: {entry.target} is {kind}, not a class; {_name_a_class(found, entry)}")
    faults: list[str] = attempt("driver", entry, partial(class_faults, found))  # a metaclass may raise
    name: object = getattr(found, "name", entry.name)
    if name != entry.name:
        faults.append(f"its class is named {name!r}; make it equal to the entry point, {entry.name!r}")
    if faults:
        raise refused(f"{subject}: class {entry.target} ({place(found)})", faults)
    return found


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


def _extension(entry: CatalogueEntry, limit_s: float) -> object:
    if entry.verdict is not Verdict.OK:
        raise DriverLoadError(f"extension {owner_of(entry)}: {entry.reason}")

    def made() -> object:
        found = imported(EXTENSIONS_GROUP, entry)
        return found() if isinstance(found, type) else found

    return within(limit_s, "extension", entry, partial(attempt, "extension", entry, made))


def _schema(hooks: Hooks, groups: Sequence[tuple[str, object]]) -> Schema:
    places, checked = dict(hooks.places("params")), []
    for plugin, group in groups:
        if not isinstance(group, ParamGroup):
            what = f"returned {group!r:.80}; return an hvcore.plugin.ParamGroup"
            raise DriverLoadError(f"plugin {hooks.owner(plugin)}, hook params ({places[plugin]}): {what}")
        checked.append((hooks.owner(plugin), group))
    try:
        schema = Schema.compile(checked)
    except DriverLoadError as error:  # two plugins declare one key, and the error has their owners: add the places
        found = [place for plugin, place in places.items() if hooks.owner(plugin) in str(error)]
        raise DriverLoadError(f"{error} ({', '.join(found)})") from error
    for owner, where, key in hooks.unknown_keys(schema.params):  # a typing error: it would never be called
        todo = near(key, schema.params) or "name a parameter of the driver or of this plugin"
        raise DriverLoadError(f"plugin {owner}, {where}: has a condition on {key!r}, which is not a parameter; {todo}")
    return schema
