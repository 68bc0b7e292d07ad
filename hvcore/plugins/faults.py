"""Mistakes in a plugin or a driver class, found by inspection before any of its code is called.

pluggy compares the names of hooks and arguments and stops at the first mistake. This module reports all of them, with
the line in the plugin's source, and also those that pluggy accepts: wrappers, coroutines, generators for hooks that
return nothing, impossible return types, and methods that the core cannot call.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hvcore.params.words import nearest
from hvcore.plugins import protocols
from hvcore.plugins.hookspecs import PROJECT, condition_of
from hvcore.plugins.protocols import Driver

__all__ = ["article", "class_faults", "hook_faults", "near", "place", "place_of_constant", "return_type"]

_Function = Callable[..., Any]


def place(thing: object) -> str:
    """``FILE:LINE`` of a function, a method or a class, or ``no source``."""
    code = getattr(inspect.unwrap(thing) if callable(thing) else thing, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"  # type: ignore[arg-type]
    except (OSError, TypeError):
        return "no source"


def place_of_constant(plugin: object, name: str) -> str:
    """``FILE:LINE`` of a plugin's constant, ``FILE`` if it is assigned elsewhere, or ``no source``."""
    home = plugin if inspect.ismodule(plugin) or isinstance(plugin, type) else type(plugin)
    try:
        lines, first = inspect.getsourcelines(home)
    except (OSError, TypeError):
        return "no source"
    line = next((number for number, text in enumerate(lines, max(first, 1)) if re.match(rf"\s*{name}\b", text)), None)
    return f"{inspect.getsourcefile(home)}{'' if line is None else f':{line}'}"


def near(word: str, known: collections.abc.Iterable[str]) -> str | None:
    """``did you mean 'KNOWN'?`` for the most similar known word; None if no word is similar."""
    found = nearest(word, known)
    return f"did you mean {found!r}?" if found is not None else None


def article(kind: type[Any]) -> str:
    """The class with its article and public name: ``an hvcore.plugin.Observation``, ``a str``."""
    name = f"hvcore.plugin.{kind.__name__}" if kind.__module__.startswith("hvcore.") else kind.__name__
    return f"{'an' if name[0] in 'aeiouhO' else 'a'} {name}"


# ----------------------------------------------------------------------------------------------------------- hooks


def hook_faults(plugin: object, specs: Mapping[str, _Function]) -> list[str]:
    """Mistakes in the hook implementations of a plugin, a line each: ``hook NAME (FILE:LINE): WHAT; TODO``."""
    faults = []
    for attribute in dir(plugin):
        function = getattr(plugin, attribute, None)
        marks = getattr(function, f"{PROJECT}_impl", None)
        if not isinstance(marks, dict) or not inspect.isroutine(function):
            continue
        name = marks.get("specname") or attribute
        spec = specs.get(name)
        if spec is not None:
            found = list(_implementation_faults(function, spec, marks))
        elif marks.get("optionalhook"):
            found = []
        else:
            found = [f"unknown hook {name!r}; {near(name, specs) or f'the hooks are {_listed(specs)}'}"]
        faults += [f"hook {name} ({place(function)}): {what}" for what in found]
    return faults


def _implementation_faults(function: _Function, spec: _Function, marks: Mapping[str, Any]) -> Iterator[str]:
    if marks.get("wrapper") or marks.get("hookwrapper"):
        yield "hook wrappers are not supported; implement the hook itself"
    yield from _argument_faults(function, spec)
    wanted = return_type(spec)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield "is async, so its body would never run; write a plain function"
    elif wanted is type(None) and inspect.isgeneratorfunction(function):
        yield "has a yield, so its body would never run; this hook returns nothing"
    yield from _return_fault(function, wanted, "the hook's specification")


def _argument_faults(function: _Function, spec: _Function) -> Iterator[str]:
    known = _names(spec)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            yield f"takes {parameter}, but hooks are called with plain arguments; name those of {_listed(known)} it needs"
        elif name not in known:
            todo = near(name, known) or f"a hook may take fewer arguments than {_listed(known)}, not others"
            yield f"has no argument {name!r}; {todo}"
        elif parameter.default is not parameter.empty:
            yield f"has a default for {name!r}, so it never gets a value; remove the default"
    condition = condition_of(function)
    if condition is not None and condition.argument not in known:
        yield f"has a condition on {condition.argument!r}, but the hook has only {_listed(known)}; remove the condition"


@functools.cache  # as for `return_type`: each implementation needs it of its specification
def _names(spec: _Function) -> tuple[str, ...]:
    return tuple(inspect.signature(spec).parameters)


def _listed(names: collections.abc.Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


# --------------------------------------------------------------------------------------------------------- drivers


def class_faults(found: type[Any]) -> list[str]:
    """Mistakes in a driver class, a line each."""
    return [*_attribute_faults(found), *_required_faults(found), *_ability_faults(found)]


def _attribute_faults(found: type[Any]) -> Iterator[str]:
    missing = [name for name in ("name", "plugins", "hookspecs") if not hasattr(found, name)]
    if missing:
        yield f"has no class attribute {', '.join(missing)}; see docs/how-to/write-a-driver.md"
    plugins = getattr(found, "plugins", ())
    if not isinstance(plugins, tuple) or not all(_is_pair(item) for item in plugins):
        yield f"its plugins must be a tuple of (name, module or object) pairs, got {plugins!r:.80}; write them so"
    if not isinstance(getattr(found, "hookspecs", ()), tuple):
        yield f"its hookspecs must be a tuple of modules, got {found.hookspecs!r:.80}; write () for none"


def _is_pair(item: object) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _required_faults(found: type[Any]) -> Iterator[str]:
    methods = _methods(Driver)
    missing = [name for name in methods if not hasattr(found, name)]
    if missing:
        yield f"has no {', '.join(missing)}; every driver has these methods, see docs/how-to/write-a-driver.md"
    for name in (name for name in methods if name not in missing):
        yield from _method_faults(found, name, methods[name])


def _ability_faults(found: type[Any]) -> Iterator[str]:
    named = (getattr(protocols, name) for name in protocols.__all__)
    for protocol in (item for item in named if getattr(item, "_is_runtime_protocol", False)):
        methods = _methods(protocol)
        present = [name for name in methods if hasattr(found, name)]
        missing = [name for name in methods if name not in present]
        if present and missing:
            what = f"has {', '.join(present)} but not {', '.join(missing)}"
            yield f"{what}; hvcore.plugin.{protocol.__name__} needs all of them, add those"
        for name in present:
            yield from _method_faults(found, name, methods[name])


def _methods(protocol: type[Any]) -> dict[str, _Function]:
    return {name: item for name, item in vars(protocol).items() if inspect.isfunction(item) and name[0] != "_"}


def _method_faults(found: type[Any], name: str, spec: _Function) -> Iterator[str]:
    function = getattr(found, name)
    where = f"{name} ({place(function)})"
    if not callable(function):
        yield f"{name}: is not a method, got {function!r:.80}; write a method"
        return
    bound = isinstance(inspect.getattr_static(found, name), classmethod | staticmethod)
    if not _can_be_called(function, spec, bound=bound):
        own, ours = _arguments(function, 0 if bound else 1), _arguments(spec, 1)
        yield f"{where}: takes {own}, but is called with {ours}; give it these arguments"
    wanted = return_type(spec)
    if inspect.iscoroutinefunction(function):
        yield f"{where}: is async, so its body would never run; write a plain method"
    elif inspect.isgeneratorfunction(function) and wanted is not None and not _may_be(types.GeneratorType, wanted):
        yield f"{where}: has a yield, so its body would never run; return the result"
    for fault in _return_fault(function, wanted, f"hvcore.plugin.{spec.__qualname__}"):
        yield f"{where}: {fault}"


def _can_be_called(function: _Function, spec: _Function, *, bound: bool) -> bool:
    """Whether the core can call it: with arguments by position, and those after ``*`` by name."""
    wanted = list(inspect.signature(spec).parameters.values())
    by_name = {item.name: None for item in wanted if item.kind is item.KEYWORD_ONLY}
    positional = [None] * (len(wanted) - len(by_name) - (1 if bound else 0))
    try:
        inspect.signature(function).bind(*positional, **by_name)
    except TypeError:
        return False
    except ValueError:
        return True  # written in C, without a signature
    return True


def _arguments(function: _Function, skipped: int) -> str:
    """The arguments in source form, without types and without the first ones: ``(live, job, *, force)``."""
    names = list(inspect.signature(function).parameters.values())[skipped:]
    return str(inspect.Signature([item.replace(annotation=item.empty) for item in names]))


# ---------------------------------------------------------------------------------------------------- return types


def _return_fault(function: _Function, wanted: Any, by: str) -> Iterator[str]:
    given = return_type(function)
    if given is not None and wanted is not None and not _may_be(given, wanted):
        yield f"returns {_type_words(given)}, {by} says {_type_words(wanted)}; correct it"


def _type_words(kind: Any) -> str:
    """The type in source form: ``hvcore.plugin.Observation``, ``dict[str, int]``."""
    words = kind.__qualname__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    if isinstance(kind, type) and kind.__module__.startswith("hvcore."):
        return f"hvcore.plugin.{words}"
    return (
        re.sub(r"hvcore\.(?:[a-z_]+\.)+", "hvcore.plugin.", words)
        .replace("collections.abc.", "")
        .replace("NoneType", "None")
    )


@functools.cache  # each implementation needs it of its specification; it is the slowest part of a load
def return_type(function: _Function) -> Any:
    """The annotated return type, ``NoneType`` for None. None if there is no annotation or it cannot be resolved."""
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # noqa: BLE001 - only a type checker can resolve some names
        return None


def _may_be(given: Any, wanted: Any) -> bool:
    given_class = typing.get_origin(given) or given
    wanted_class = typing.get_origin(wanted) or wanted
    if given is Any or wanted is Any:
        return True
    if given_class in (typing.Union, types.UnionType):
        return any(_may_be(member, wanted) for member in typing.get_args(given))
    if not isinstance(given_class, type) or not isinstance(wanted_class, type):
        return True
    if wanted_class is collections.abc.Iterable and given_class is type(None):
        return False
    return issubclass(given_class, wanted_class)
