"""Loading one driver by name, with its extensions: stevedore finds it, pluggy registers its hooks.

Their defaults disagree and are silent about duplicates and unknown hooks (docs/decisions/0001), so
everything that could go wrong is decided here and named with plugin, distribution and version.
"""

from __future__ import annotations

import difflib
import importlib
import traceback
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import pluggy

from hvcore import hookspecs
from hvcore.catalogue import DRIVERS_GROUP, CatalogueEntry, Verdict, catalogue, extensions_of
from hvcore.driver import Driver
from hvcore.errors import DriverLoadError, ParamsError, Problem, UnknownDriverError
from hvcore.hooks import Hooks
from hvcore.host.host import Host
from hvcore.host.node_checks import node_problems
from hvcore.model.instance import Instance
from hvcore.model.layers import NO_LAYERS, Layers
from hvcore.params import ParamGroup, Params, Schema

__all__ = ["LoadedDriver", "load", "without_secrets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedDriver:
    """A driver ready for use: itself, its hooks, and the schema of all its parameters."""

    entry: CatalogueEntry
    driver: Driver
    hooks: Hooks
    schema: Schema
    extensions: tuple[CatalogueEntry, ...]
    skipped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The driver's name."""
        return self.entry.name

    def problems(self, instance: Instance, layers: Layers = NO_LAYERS) -> tuple[Params | None, tuple[Problem, ...]]:
        """The instance's parameters with the layers below and the defaults filled in, and everything that is wrong.

        Pure: the layers are given.
        """
        params, problems = self.schema.problems(instance.params, below=layers.below)
        if params is not None:
            crossed = self.hooks.items("check", Problem, instance=instance, params=params)
            problems = (*problems, *(problem for _, problem in crossed))
        problems = (*layers.problems, *layers.placed(problems, params))
        return (None if problems else params), problems

    def warnings(self, instance: Instance, params: Params, layers: Layers = NO_LAYERS) -> tuple[Problem, ...]:
        """What works and is rarely wanted. Pure, and fails for nothing: a plugin's own failure is a warning too."""
        found = [
            item
            if isinstance(item, Problem)
            else Problem(path=f"plugin {plugin}", what=f"its warnings could not be had ({item})")
            for plugin, item in self.hooks.attempts("assess", Problem, instance=instance, params=params)
        ]
        return layers.placed(found, params)

    def verify(self, spec: object, params: Params, host: Host) -> tuple[Problem, ...]:
        """Everything that keeps this node from running it: parameters that name files, then what the driver finds."""
        return (*node_problems(self.schema, params), *self.driver.verify(spec, host))

    def check(self, instance: Instance, layers: Layers = NO_LAYERS) -> Params:
        """The instance's parameters, complete and typed. Raises `ParamsError` with every problem at once."""
        if instance.driver != self.name:
            wrong = Problem(path="driver", what=f"is not {self.name}", got=repr(instance.driver))
            raise ParamsError(instance.name, [wrong])
        params, problems = self.problems(instance, layers)
        if params is None:
            raise ParamsError(instance.name, problems)
        return params


def without_secrets(instance: Instance, schema: Schema) -> Instance:
    """The instance as it may be written down: secret parameters are left out."""
    secret = {key for key, param in schema.params.items() if param.secret}
    if not secret & set(instance.params):
        return instance
    return replace(instance, params={key: value for key, value in instance.params.items() if key not in secret})


def load(name: str, *, without_broken: bool = False) -> LoadedDriver:
    """Import one driver and its extensions. Raises `UnknownDriverError` or `DriverLoadError`, saying whose fault it is.

    With ``without_broken`` an extension that cannot be used is left out and named in ``skipped``: what runs already can
    still be seen and stopped. Nothing may be started that way.
    """
    entry = _find(name)
    try:
        found = _import_driver(entry)
    except (Exception, SystemExit) as error:
        raise DriverLoadError(_import_failed("driver", entry, error)) from error
    driver_class = _driver_class(found, entry)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    for specs in (hookspecs, *driver_class.hookspecs):
        manager.add_hookspecs(specs)
    owners: dict[str, str] = {}
    for plugin_name, plugin in driver_class.plugins:
        _register(manager, owners, plugin_name, plugin, entry)
    extensions = tuple(extensions_of(name))
    skipped = _register_extensions(manager, owners, extensions, without_broken=without_broken)
    hooks = Hooks(manager, owners)
    if skipped:
        # What runs has been checked; the parameters of what is missing could not be judged anyway.
        return LoadedDriver(
            entry=entry,
            driver=driver_class(hooks),
            hooks=hooks,
            schema=Schema.compile(()),
            extensions=extensions,
            skipped=skipped,
        )
    groups = [(owners[plugin], _group(owners[plugin], group)) for plugin, group in hooks.each("params")]
    schema = Schema.compile(groups)
    try:
        driver = driver_class(hooks)
    except DriverLoadError:
        raise
    except Exception as error:
        raise DriverLoadError(_import_failed("driver", entry, error)) from error
    return LoadedDriver(entry=entry, driver=driver, hooks=hooks, schema=schema, extensions=extensions)


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
            _register(manager, owners, extension.name, _import_extension(extension), extension)
        except DriverLoadError as error:
            if not without_broken:
                raise
            skipped.append(str(error))
            if manager.has_plugin(extension.name):
                manager.unregister(name=extension.name)
    return tuple(skipped)


def _import_driver(entry: CatalogueEntry) -> Any:
    from stevedore.driver import DriverManager  # 6 ms that hv list of an empty node need not pay

    class Judged(DriverManager[Any]):
        # What the catalogue has judged and nothing else. stevedore's own list is kept for the life of the process, and
        # on disk under a key of times rounded to two minutes: a driver installed since is not in it.
        def list_entry_points(self) -> list[metadata.EntryPoint]:
            return [metadata.EntryPoint(name=entry.name, value=entry.target, group=DRIVERS_GROUP)]

    return Judged(DRIVERS_GROUP, entry.name, invoke_on_load=False).driver


def _find(name: str) -> CatalogueEntry:
    everything = catalogue()
    found = [entry for entry in everything if entry.name == name]
    if not found:
        names = sorted({entry.name for entry in everything if entry.verdict is Verdict.OK})
        refused = [f"{entry.name} ({entry.verdict})" for entry in everything if entry.verdict is not Verdict.OK]
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see hv drivers"
        also = f"; refused: {', '.join(refused)}" if refused else ""
        raise UnknownDriverError(f"no driver {name!r:.80}; installed: {', '.join(names) or 'none'}{also}; {hint}")
    if found[0].verdict is not Verdict.OK:
        raise DriverLoadError(f"driver {name} ({found[0].distribution} {found[0].version}): {found[0].reason}")
    return found[0]


def _driver_class(found: Any, entry: CatalogueEntry) -> Any:
    missing = [
        attribute
        for attribute in ("name", "plugins", "hookspecs", "plan", "verify", "describe", "start", "observe", "stop")
        if not hasattr(found, attribute)
    ]
    if not isinstance(found, type) or missing:
        lacks = f"has no {', '.join(missing)}" if missing else "is not a class"
        raise DriverLoadError(f"driver {_owner(entry)}: {entry.target} {lacks}; see docs/how-to/write-a-driver.md")
    if getattr(found, "name", None) != entry.name:
        got = getattr(found, "name", None)
        raise DriverLoadError(f"driver {_owner(entry)}: its class is named {got!r}; make it equal to the entry point")
    return found


def _register(
    manager: pluggy.PluginManager, owners: dict[str, str], name: str, plugin: object, entry: CatalogueEntry
) -> None:
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        hooks = [hook for hook in vars(manager.hook) if vars(manager.hook)[hook].has_spec()]
        if "unknown hook" not in str(error):
            text = " ".join(str(error).split())
            raise DriverLoadError(
                f"plugin {_owner(entry)}: {text}; a hook may take fewer arguments, not others"
            ) from error
        words = [word.strip("'\"") for word in str(error).split()]
        near = [match for word in words for match in difflib.get_close_matches(word, hooks, n=1) if word not in hooks]
        hint = f"did you mean {near[0]!r}?" if near else f"the hooks are {', '.join(sorted(hooks))}"
        text = " ".join(str(error).split())
        raise DriverLoadError(f"plugin {_owner(entry)}: {text}; {hint}") from error
    owners[name] = f"{name} ({entry.distribution} {entry.version})"


def _import_extension(entry: CatalogueEntry) -> object:
    if entry.verdict is not Verdict.OK:
        raise DriverLoadError(f"extension {_owner(entry)}: {entry.reason}")
    module, _, attribute = entry.target.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in attribute.split(".") if attribute else ():
            found = getattr(found, part)
        return found() if isinstance(found, type) else found
    except (Exception, SystemExit) as error:
        raise DriverLoadError(_import_failed("extension", entry, error)) from error


def _import_failed(kind: str, entry: CatalogueEntry, error: BaseException) -> str:
    return (
        f"{kind} {_owner(entry)}: cannot be imported, got {type(error).__name__}: {error} "
        f"({_place(error)}); reinstall or report to its authors"
    )


def _place(error: BaseException) -> str:
    """The file and line where it happened; those of the importer itself help nobody."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return "no such module" if frame.filename.startswith("<frozen") else f"{frame.filename}:{frame.lineno}"


def _owner(entry: CatalogueEntry) -> str:
    return f"{entry.name} ({entry.distribution} {entry.version})"


def _group(plugin: str, group: object) -> ParamGroup:
    if not isinstance(group, ParamGroup):
        raise DriverLoadError(f"plugin {plugin}, hook params: returned {group!r:.80}; return an hvcore.ParamGroup")
    return group
