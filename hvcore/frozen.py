"""Frozen dataclasses whose classes are made in a third of the time.

`dataclasses` compiles the text of six methods for each class, 0.8 ms with Python 3.11. `hv list` needs some thirty
classes, and a start more than a hundred. Here only ``__init__`` is compiled, when the first object is made, and the other
methods are functions that know the fields. What a class can do is the same; `tests/core/test_frozen.py` compares both.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import reprlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

__all__ = ["dataclass"]

_OURS: Final = {"frozen", "slots", "kw_only", "eq"}


class _Factory:
    """The default of an argument whose value a factory makes, as in the signature of a dataclass."""

    def __repr__(self) -> str:
        return "<factory>"


_UNSET: Final = _Factory()

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """Like `dataclasses.dataclass`, for classes without InitVar. The class of a frozen one is made faster."""
        if cls is None:
            return functools.partial(dataclass, **options)
        if not options.get("frozen") or options.keys() - _OURS:
            return dataclasses.dataclass(cls, **options)
        # A class derived from a frozen one has to be declared frozen; its `__setattr__` is then compiled too.
        derived = any(base.__dataclass_params__.frozen for base in cls.__mro__[1:] if dataclasses.is_dataclass(base))
        own = set(vars(cls))
        made = dataclasses.dataclass(cls, **options | {"frozen": derived, "eq": False}, init=False, repr=False)
        methods = _methods(made)
        if options.get("eq", True):
            methods |= _comparison(made)
        if not derived:
            made.__dataclass_params__.frozen = True
            methods |= _refusals(made) | (_state(made) if options.get("slots") else {})
        for name, method in methods.items():
            if name not in own:
                method.__qualname__ = f"{made.__qualname__}.{name}"
                setattr(made, name, method)
        if "__init__" not in own:
            made.__init__ = _Init(made)
        return made


class _Init:
    """Stands in the class as its ``__init__`` until that is used. Few classes of a process have objects."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        method = _init(self._cls, dataclasses.fields(self._cls))
        method.__qualname__ = f"{self._cls.__qualname__}.__init__"
        self._cls.__init__ = method
        return method.__get__(instance, owner)


def _methods(cls: Any) -> dict[str, Callable[..., Any]]:
    shown = [field.name for field in dataclasses.fields(cls) if field.repr]

    @reprlib.recursive_repr()
    def __repr__(self: object) -> str:  # noqa: N807 - a method of `cls`, as all here
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    return {"__repr__": __repr__}


def _comparison(cls: Any) -> dict[str, Callable[..., Any]]:
    fields = dataclasses.fields(cls)
    values = _getter([field.name for field in fields if field.compare])
    hashed = _getter([field.name for field in fields if (field.compare if field.hash is None else field.hash)])

    def __eq__(self: object, other: object) -> bool:  # noqa: N807
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: object) -> int:  # noqa: N807
        return hash(hashed(self))

    return {"__eq__": __eq__, "__hash__": __hash__}


def _getter(names: list[str]) -> Callable[[object], Any]:
    return operator.attrgetter(*names) if names else lambda _: ()


def _init(cls: Any, fields: tuple[dataclasses.Field[Any], ...]) -> Callable[..., None]:
    space: dict[str, Any] = {"_set": object.__setattr__, "_unset": _UNSET}
    plain, keywords, body = ["self"], list[str](), list[str]()
    for field in fields:
        name, value, argument = field.name, field.name, field.name
        if field.default is not dataclasses.MISSING:
            space[f"_of_{name}"] = field.default
            argument = f"{name}=_of_{name}"
        elif field.default_factory is not dataclasses.MISSING:
            space[f"_of_{name}"] = field.default_factory
            argument, value = f"{name}=_unset", f"_of_{name}() if {name} is _unset else {name}"
        if not field.init:
            if argument == name:
                continue
            value = f"_of_{name}" if field.default is not dataclasses.MISSING else f"_of_{name}()"
        else:
            (keywords if field.kw_only else plain).append(argument)
        body.append(f" _set(self, {name!r}, {value})")
    if hasattr(cls, "__post_init__"):
        body.append(" self.__post_init__()")
    arguments = ", ".join([*plain, *(["*", *keywords] if keywords else [])])
    exec("\n".join([f"def __init__({arguments}):", *(body or [" pass"])]), space)  # noqa: S102 - as in dataclasses
    made: Callable[..., None] = space["__init__"]
    made.__annotations__ = {field.name: field.type for field in fields if field.init} | {"return": None}
    return made


def _refusals(cls: Any) -> dict[str, Callable[..., Any]]:
    """The methods that keep an object as it is."""
    names = frozenset(field.name for field in dataclasses.fields(cls))

    def __setattr__(self: object, name: str, value: object) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: object, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    return {"__setattr__": __setattr__, "__delattr__": __delattr__}


def _state(cls: Any) -> dict[str, Callable[..., Any]]:
    """How pickle saves and restores an object with slots."""
    names = [field.name for field in dataclasses.fields(cls)]

    def __getstate__(self: object) -> list[Any]:  # noqa: N807
        return [getattr(self, name) for name in names]

    def __setstate__(self: object, state: list[Any]) -> None:  # noqa: N807
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return {"__getstate__": __getstate__, "__setstate__": __setstate__}
