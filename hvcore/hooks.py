"""Calling hooks: every result and every failure is attributed to the plugin it came from.

pluggy registers the implementations and checks them against their specifications. They are called
from here one by one, because a plain pluggy call gives results without their plugins and lets one
failing plugin hide the answers of the others.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pluggy

from hvcore.errors import DriverLoadError, HookError, HvError

__all__ = ["Hooks"]

_Call = tuple[str, Callable[..., Any], tuple[str, ...]]


class Hooks:
    """The hooks of one driver, with the driver's own implementations first and its extensions' after.

    ``owners`` says of a plugin in which distribution it comes, for what is wrong with it when it is loaded.
    """

    def __init__(self, manager: pluggy.PluginManager, owners: Mapping[str, str] = MappingProxyType({})) -> None:
        self._owners = dict(owners)
        self._calls: dict[str, tuple[_Call, ...]] = {}
        for hook in vars(manager.hook).values():
            if not hook.has_spec():
                continue
            order = sorted(hook.get_hookimpls(), key=lambda found: found.trylast - found.tryfirst)
            for found in order:
                _refuse_misuse(found, hook.spec.function, owners.get(found.plugin_name, found.plugin_name))
            calls = tuple((found.plugin_name, found.function, tuple(found.argnames)) for found in order)
            self._calls[hook.name] = calls

    def implementations(self, hook: str) -> tuple[str, ...]:
        """The plugins that implement the hook, in the order they are called."""
        return tuple(plugin for plugin, _, _ in self._calls[hook])

    def owner(self, plugin: str) -> str:
        """The plugin with the distribution that it comes in: ``kvm.owner (hv-inventory 0.1.0)``."""
        return self._owners.get(plugin, plugin)

    def each(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Call every implementation; ``(plugin, result)`` pairs. Raises `HookError` naming the plugin that raised."""
        for call in self._calls[hook]:
            yield call[0], _called(hook, call, arguments)

    def items(self, hook: str, kind: type[Any], **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Like `each` for hooks that return an iterable: ``(plugin, item)`` pairs, every item checked to be a ``kind``."""
        for call in self._calls[hook]:
            for item in _items(hook, call, kind, arguments):
                yield call[0], item

    def attempts(self, hook: str, kind: type[Any], **arguments: Any) -> Iterator[tuple[str, Any | HookError]]:
        """Like `items` for hooks that may not fail anything: a plugin's failure is an item of it, and ends only its own."""
        for call in self._calls[hook]:
            try:
                for item in _items(hook, call, kind, arguments):
                    yield call[0], item
            except HookError as error:
                yield call[0], error
            except HvError as error:
                yield call[0], _raised(call[0], hook, error)

    def notes(self, hook: str, **arguments: Any) -> tuple[str, ...]:
        """Call every implementation and turn what fails into a note: for hooks after the point of no return."""
        failures = []
        for plugin, function, names in self._calls[hook]:
            try:
                function(*[arguments[name] for name in names])
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises is reported, not raised
                failures.append(str(_raised(plugin, hook, error)))
        return tuple(failures)


def _called(hook: str, call: _Call, arguments: Mapping[str, Any]) -> Any:
    plugin, function, names = call
    try:
        return function(*[arguments[name] for name in names])
    except HvError as error:
        error.add_note(f"raised by plugin {plugin}, hook {hook}")
        raise
    except Exception as error:
        raise _raised(plugin, hook, error) from error


def _items(hook: str, call: _Call, kind: type[Any], arguments: Mapping[str, Any]) -> Iterator[Any]:
    plugin = call[0]
    result = _called(hook, call, arguments)
    if result is None:
        return
    if not hasattr(result, "__iter__"):
        raise HookError(plugin=plugin, hook=hook, what=f"returned {result!r:.80}, must be an iterable")
    try:
        for item in result:
            if not isinstance(item, kind):
                raise HookError(plugin=plugin, hook=hook, what=f"gave {item!r:.80}, must be {kind.__name__}")
            yield item
    except HookError:
        raise
    except HvError as error:
        error.add_note(f"raised by plugin {plugin}, hook {hook}")
        raise
    except Exception as error:
        raise _raised(plugin, hook, error) from error


def _raised(plugin: str, hook: str, error: Exception) -> HookError:
    return HookError(plugin=plugin, hook=hook, what=f"raised {type(error).__name__}: {error}")


def _refuse_misuse(found: Any, spec: Callable[..., Any], owner: str) -> None:
    """Raise `DriverLoadError` for what pluggy lets pass: wrappers, and return types that cannot be right."""
    where = f"plugin {owner}, hook {found.function.__name__} ({_place(found.function)})"
    if found.wrapper or found.hookwrapper:
        raise DriverLoadError(f"{where}: hook wrappers are not supported; implement the hook itself")
    wanted = _return_type(spec)
    if wanted is type(None) and inspect.isgeneratorfunction(found.function):
        raise DriverLoadError(f"{where}: has a yield, so its body would never run; this hook returns nothing")
    given = _return_type(found.function)
    if given is None or wanted is None:
        return
    if not _may_be(given, wanted):
        raise DriverLoadError(f"{where}: returns {given}, the hook's specification says {wanted}; correct it")


def _place(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "no source"


def _return_type(function: Callable[..., Any]) -> Any:
    """The annotated return type, ``NoneType`` for None, or None when there is none that can be resolved."""
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - a name that only a type checker can resolve says nothing here
        return None


def _may_be(given: Any, wanted: Any) -> bool:
    given_class = typing.get_origin(given) or given
    wanted_class = typing.get_origin(wanted) or wanted
    if given is Any:
        return True
    if given_class in (typing.Union, types.UnionType):
        return any(_may_be(member, wanted) for member in typing.get_args(given))
    if not isinstance(given_class, type) or not isinstance(wanted_class, type):
        return True
    if wanted_class is collections.abc.Iterable and given_class is type(None):
        return False
    return issubclass(given_class, wanted_class)
