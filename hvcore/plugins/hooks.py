"""Calling hooks, so that every result and every failure is attributed to its plugin.

pluggy registers the implementations. They are called here one by one, because a pluggy call returns results without
their plugins, and one failing plugin hides the results of the others.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

import pluggy

from hvcore.errors import DriverLoadError, HookError, HvError
from hvcore.frozen import dataclass
from hvcore.plugins.faults import place, place_of_constant
from hvcore.plugins.hookspecs import Condition, condition_of
from hvcore.resources.core_kinds import with_kinds
from hvcore.resources.kind import ResourceKind
from hvcore.resources.kinds import raised_at

__all__ = ["Hooks"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Constant:
    """A constant of a plugin, called like the function that it replaces."""

    plugin: object
    name: str

    def __call__(self) -> Any:
        return getattr(self.plugin, self.name)


@dataclass(frozen=True, slots=True)
class _Call:
    """One implementation of a hook: its plugin, and the hook's arguments that it takes."""

    hook: str
    plugin: str
    owner: str
    function: Callable[..., Any]
    names: tuple[str, ...]
    condition: Condition | None

    def applies(self, arguments: Mapping[str, Any]) -> bool:
        condition = self.condition
        return condition is None or condition.holds(arguments[condition.argument])

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        return self.function(*map(arguments.__getitem__, self.names))

    @property
    def place(self) -> str:
        if isinstance(self.function, _Constant):
            return place_of_constant(self.function.plugin, self.function.name)
        return place(self.function)

    def wrong(self, what: str, where: str | None = None) -> HookError:
        return HookError(plugin=self.plugin, hook=self.hook, what=what, owner=self.owner, place=where or self.place)

    def raised(self, error: BaseException) -> HookError:
        return self.wrong(f"raised {type(error).__name__}: {error}", raised_at(error))

    def line_in(self, error: BaseException) -> str:
        """``FILE:LINE`` where the error left the plugin's own file; that of the implementation if it was not in it."""
        file, found, trace = self.place.rpartition(":")[0], self.place, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == file:
                found = f"{file}:{trace.tb_lineno}"
            trace = trace.tb_next
        return found

    def note(self) -> str:
        return f"raised by plugin {self.owner}, hook {self.hook}"


class Hooks:
    """The hooks of one driver, with the driver's own implementations first and its extensions' after.

    ``owners`` maps a plugin to its name with its distribution, for errors. ``kinds`` are the resource kinds of the core,
    the driver and its extensions. Raises `DriverLoadError` if two of them clash.
    """

    def __init__(self, manager: pluggy.PluginManager, owners: Mapping[str, str] = MappingProxyType({})) -> None:
        self._owners = dict(owners)
        self._calls: dict[str, list[_Call]] = {}
        self._deprecated: dict[str, str] = {}
        for hook in vars(manager.hook).values():
            if not hook.has_spec():
                continue
            self._calls[hook.name] = self._implementations(hook, manager.list_name_plugin())
            if hook.spec.warn_on_impl is not None:  # pluggy's hookspec(warn_on_impl=DeprecationWarning(...))
                self._deprecated[hook.name] = str(hook.spec.warn_on_impl)
        found = self.items("resource_kinds", ResourceKind) if "resource_kinds" in self._calls else ()
        self.kinds = with_kinds([(self.owner(plugin), kind) for plugin, kind in found])

    def _implementations(self, hook: Any, plugins: Sequence[tuple[str, object]]) -> list[_Call]:
        """In the order of the plugins, except tryfirst and trylast. For a hook without arguments, constants too."""
        found = [
            (item.trylast - item.tryfirst, item.plugin_name, item.function, item.argnames)
            for item in hook.get_hookimpls()
        ]
        if not hook.spec.argnames:
            marked, constant = {name for _, name, *_ in found}, hook.name.upper()
            found += [
                (0, name, _Constant(plugin, constant), ())
                for name, plugin in plugins
                if name not in marked and hasattr(plugin, constant)
            ]
            order = [name for name, _ in plugins]
            found.sort(key=lambda item: order.index(item[1]))
        return [
            _Call(hook.name, name, self.owner(name), function, names, condition_of(function))
            for _, name, function, names in sorted(found, key=operator.itemgetter(0))
        ]

    def deprecated(self) -> Iterator[tuple[str, str]]:
        """Implementations of deprecated hooks: ``plugin kvm.x (hv-x 1.0), hook NAME (FILE:LINE)``, and the hook's warning."""
        for hook, words in self._deprecated.items():
            for call in self._calls[hook]:
                yield f"plugin {call.owner}, hook {hook} ({call.place})", words

    def unknown_keys(self, known: Collection[str]) -> Iterator[tuple[str, str, str]]:
        """Owner, hook and place of implementations whose condition names an unknown parameter, and the parameter."""
        for calls in self._calls.values():
            for call in calls:
                for key in sorted(call.condition.keys.difference(known) if call.condition else ()):
                    yield call.owner, f"hook {call.hook} ({call.place})", key

    def implementations(self, hook: str) -> tuple[str, ...]:
        """The plugins that implement the hook, in the order they are called."""
        return tuple(call.plugin for call in self._calls[hook])

    def places(self, hook: str) -> Iterator[tuple[str, str]]:
        """``(plugin, FILE:LINE)`` of every implementation of the hook, in the order they are called."""
        return ((call.plugin, call.place) for call in self._calls[hook])

    def owner(self, plugin: str) -> str:
        """The plugin with its distribution: ``kvm.owner (hv-inventory 0.1.0)``."""
        return self._owners.get(plugin, plugin)

    def each(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Call every implementation; ``(plugin, result)`` pairs. Raises `HookError` with the plugin that raised."""
        for call in self._calls[hook]:
            if _called(call.applies, call, arguments):
                yield call.plugin, _called(call, call, arguments)

    def items(self, hook: str, kind: type[Any], **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Like `each` for hooks that return an iterable: ``(plugin, item)`` pairs. Every item has to be a ``kind``."""
        for call in self._calls[hook]:
            for item in _items((call,), kind, arguments):
                yield call.plugin, item

    def gathered(self, hook: str, kind: type[T], **arguments: Any) -> list[T]:
        """The items of `items`, without their plugins."""
        return _items(self._calls[hook], kind, arguments)

    def attempts(self, hook: str, kind: type[Any], **arguments: Any) -> Iterator[tuple[str, Any | HookError]]:
        """Like `items` for hooks that must not fail an operation: the error of a plugin becomes its only item."""
        for call in self._calls[hook]:
            try:
                for item in _items((call,), kind, arguments):
                    yield call.plugin, item
            except HookError as error:
                yield call.plugin, error
            except HvError as error:
                yield call.plugin, call.raised(error)

    def notes(self, hook: str, **arguments: Any) -> tuple[str, ...]:
        """Call every implementation and return errors as notes: for hooks after the point of no return."""
        failures = []
        for call in self._calls[hook]:
            try:
                if call.applies(arguments):
                    call(arguments)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - reported, not raised
                failures.append(str(call.raised(error)))
        return tuple(failures)


def _called(function: Callable[[Mapping[str, Any]], Any], call: _Call, arguments: Mapping[str, Any]) -> Any:
    try:
        return function(arguments)
    except (Exception, SystemExit) as error:
        _blame(call, error)
        raise


def _blame(call: _Call, error: BaseException) -> None:
    """Add a note with the plugin to an `HvError`. Raise a `HookError` in place of any other error.

    What hvcore refuses of a plugin, such as a wrong parameter, gets the plugin and the line in its text: lists of drivers
    show no notes.
    """
    if not isinstance(error, HvError):
        raise call.raised(error) from error
    if type(error) is DriverLoadError:
        raise DriverLoadError(f"{error} ({call.owner}, {call.line_in(error)})") from error
    if not isinstance(error, HookError):
        error.add_note(call.note())


def _items(calls: Sequence[_Call], kind: type[T], arguments: Mapping[str, Any]) -> list[T]:
    # One function with one list instead of a generator for each plugin: a check calls every family, mostly for nothing.
    found: list[T] = []
    picked: dict[tuple[str, ...], list[Any]] = {}
    for call in calls:
        try:
            condition = call.condition
            if condition is not None and not condition.holds(arguments[condition.argument]):
                continue
            given = picked.get(call.names)
            if given is None:
                given = picked[call.names] = [arguments[name] for name in call.names]
            result = call.function(*given)
            if result is None:
                continue
            if not hasattr(result, "__iter__"):
                raise call.wrong(f"returned {result!r:.80}, must be an iterable of {kind.__name__}")
            items = list(result)
        except (Exception, SystemExit) as error:
            _blame(call, error)
            raise
        for item in items:
            if not isinstance(item, kind):
                raise call.wrong(f"gave {item!r:.80}, must be {kind.__name__}")
            found.append(item)
    return found
