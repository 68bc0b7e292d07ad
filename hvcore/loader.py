"""Loading one driver by name, with its extensions: stevedore finds it, pluggy registers its hooks.

Their defaults disagree and are silent about duplicates and unknown hooks (docs/decisions/0001), so
everything that could go wrong is decided here and named with plugin, distribution and version.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Any

import pluggy

from hvcore import hookspecs
from hvcore.catalogue import DRIVERS_GROUP, CatalogueEntry, Verdict, catalogue, extensions_of
from hvcore.contract import class_faults, hook_faults, near, place
from hvcore.driver import Driver, Examines
from hvcore.errors import DriverError, DriverLoadError, HvError, ParamsError, Problem, UnknownDriverError
from hvcore.hooks import Hooks
from hvcore.host.host import Host
from hvcore.host.node_checks import node_problems
from hvcore.importing import attempt, imported, owner_of, refused, where_raised
from hvcore.job import Job, Live
from hvcore.model.finding import Finding, Severity
from hvcore.model.info import Observation
from hvcore.model.instance import Instance
from hvcore.model.layers import NO_LAYERS, Layers
from hvcore.model.plan import Plan
from hvcore.params import ParamGroup, Params, Schema

__all__ = ["LoadedDriver", "load"]


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
        found += [
            Problem(path=f"params.{key}", what=str(farewell))
            for key, param in self.schema.params.items()
            if key in params.given and (farewell := param.farewell) is not None
        ]
        return layers.placed(found, params)

    def without_secrets(self, instance: Instance) -> Instance:
        """The instance as it may be written down: secret parameters are left out."""
        kept = {key: value for key, value in instance.params.items() if not self._is_secret(key)}
        return instance if len(kept) == len(instance.params) else replace(instance, params=kept)

    def _is_secret(self, key: str) -> bool:
        param = self.schema.params.get(key)
        return param is not None and param.secret

    def verify(self, spec: object, params: Params, host: Host) -> tuple[Problem, ...]:
        """Everything that keeps this node from running it: parameters that name files, then what the driver finds.

        Of a file that is refused as a parameter already, the driver's finding is no news.
        """
        found = self._asked(lambda *given: tuple(self.driver.verify(*given)), "verify", spec, host)
        for item in found:
            if not isinstance(item, Problem):
                raise self._wrong("verify", f"gave {item!r:.80}", "yield each as an hvcore.Problem")
        refused = tuple(node_problems(self.schema, params))
        told = {problem.got for problem in refused}
        return (*refused, *(problem for problem in found if problem.got is None or problem.got not in told))

    def plan(self, instance: Instance, params: Params) -> Any:
        """The spec that the driver decides on. Raises `DriverError` when that is no frozen dataclass."""
        spec = self._asked(self.driver.plan, "plan", instance, params)
        if not dataclasses.is_dataclass(spec) or isinstance(spec, type):
            raise self._wrong("plan", f"returned {spec!r:.80}", "return an object of a frozen dataclass")
        if not spec.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            kind = type(spec)
            what = f"returned a {kind.__name__} ({place(kind)}), which can be changed"
            raise self._wrong("plan", what, "declare it @dataclass(frozen=True): a spec is decided once")
        return spec

    def describe(self, spec: object, host: Host) -> Plan:
        """What a start would do, as the driver tells it."""
        found: Plan = self._asked(self.driver.describe, "describe", spec, host, kind=Plan)
        return found

    def start(self, spec: object, job: Job) -> None:
        """Let the driver start it."""
        self._asked(self.driver.start, "start", spec, job)

    def observe(self, live: Live) -> Observation:
        """How the driver sees the instance now."""
        found: Observation = self._asked(self.driver.observe, "observe", live, kind=Observation)
        return found

    def stop(self, live: Live, job: Job, *, force: bool) -> str:
        """Let the driver end it; the rung that worked."""
        found: str = self._asked(partial(self.driver.stop, force=force), "stop", live, job, kind=str)
        return found

    def examine(self, host: Host) -> tuple[Finding, ...]:
        """What the driver says of this node, and which of its hooks' implementations are to go."""
        found = [
            Finding(subject=where, severity=Severity.NOTE, what=f"is deprecated: {words}")
            for where, words in self.hooks.deprecated()
        ]
        if not isinstance(self.driver, Examines):
            return tuple(found)
        driver = self.driver
        try:
            found += self._asked(lambda given: tuple(driver.examine(given)), "examine", host)
        except (HvError, OSError) as error:
            found.append(Finding(subject="examine", severity=Severity.PROBLEM, what=str(error)))
        return tuple(found)

    def _asked(self, call: Callable[..., Any], method: str, *arguments: Any, kind: type[Any] = object) -> Any:
        """What a method of the driver returns. Raises `DriverError` when it raises what is no error of the node's."""
        try:
            result = call(*arguments)
        except (HvError, OSError):
            raise
        except (Exception, SystemExit) as error:  # a plugin does not decide when its host application ends
            what = f"raised {type(error).__name__}: {error}"
            raise self._wrong(method, what, "report this to its authors", where_raised(error)) from error
        if not isinstance(result, kind):
            raise self._wrong(method, f"returned {result!r:.80}", f"return {_article(kind)}")
        return result

    def _wrong(self, method: str, what: str, todo: str, where: str | None = None) -> DriverError:
        found = where or place(getattr(self.driver, method))
        return DriverError(owner=owner_of(self.entry), method=method, place=found, what=what, todo=todo)

    def check(self, instance: Instance, layers: Layers = NO_LAYERS) -> Params:
        """The instance's parameters, complete and typed. Raises `ParamsError` with every problem at once."""
        if instance.driver != self.name:
            wrong = Problem(path="driver", what=f"is not {self.name}", got=repr(instance.driver))
            raise ParamsError(instance.name, [wrong])
        params, problems = self.problems(instance, layers)
        if params is None:
            raise ParamsError(instance.name, problems)
        return params


def load(name: str, *, without_broken: bool = False) -> LoadedDriver:
    """Import one driver and its extensions. Raises `UnknownDriverError` or `DriverLoadError`, saying whose fault it is.

    With ``without_broken`` an extension that cannot be used is left out and named in ``skipped``: what runs already can
    still be seen and stopped. Nothing may be started that way.
    """
    entry = _find(name)
    driver_class = _driver_class(attempt("driver", entry, partial(_import_driver, entry)), entry)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    for specs in (hookspecs, *driver_class.hookspecs):
        manager.add_hookspecs(specs)
    owners: dict[str, str] = {}
    for plugin_name, plugin in driver_class.plugins:
        _register(manager, owners, plugin_name, plugin, entry)
    extensions = tuple(extensions_of(name))
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
    return "a function" if inspect.isroutine(found) else _article(type(found))


def _name_a_class(found: object, entry: CatalogueEntry) -> str:
    module = inspect.getmodule(found)
    inside: Iterable[tuple[str, object]] = vars(module).items() if module is not None else ()
    known = [name for name, item in inside if isinstance(item, type) and getattr(item, "name", None) == entry.name]
    target = f"{entry.target.partition(':')[0]}:{known[0] if known else 'CLASS'}"
    return f"write {entry.name} = {target!r} under {DRIVERS_GROUP}"


def _article(kind: type[Any]) -> str:
    name = f"hvcore.{kind.__name__}" if kind.__module__.startswith("hvcore.") else kind.__name__
    return f"{'an' if name[0] in 'aeiouhO' else 'a'} {name}"


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
        found = imported(entry)
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
