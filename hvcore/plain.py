"""Values as plain JSON types, for what leaves the program: errors, observations, instances."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final, NoReturn

__all__ = ["ReadOnlyDict", "is_figure", "plain", "plain_fields"]


class ReadOnlyDict(dict[str, Any]):
    """A dict that refuses changes with TypeError. Copies, pickles and compares like any other."""

    def _refuse(self, *_arguments: object, **_named: object) -> NoReturn:
        raise TypeError("cannot be changed; make a copy with dict(...)")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[ReadOnlyDict], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)


_LARGEST: Final = 2**63


def is_figure(value: object) -> bool:
    """Whether programs can use the value as a size or a counter: a number from 0 to 63 bits, and no bool or NaN."""
    return type(value) is not bool and isinstance(value, int | float) and 0 <= value < _LARGEST


_DEEPEST: Final = 20
_INTEGER_BITS: Final = 64


def plain(value: object, *, depth: int = 0) -> Any:
    """The value as plain JSON types: objects with ``to_json`` by that, dataclasses as objects, sets and tuples as lists.

    NaN and infinity become None. A value that JSON has no form for becomes its text. Never raises.
    """
    for kind, simple in _SIMPLE:
        if isinstance(value, kind):
            return simple(value)
    try:
        return f"{value!r:.80}" if depth >= _DEEPEST else _whole(value, depth + 1)
    except Exception as error:  # noqa: BLE001 - of foreign objects; the caller reports something else
        return f"{type(value).__name__} ({type(error).__name__})"


_SIMPLE: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (type(None), lambda value: value),
    (bool, lambda value: value),
    (Enum, lambda value: plain(value.value)),
    (int, lambda value: int.__int__(value) if value.bit_length() <= _INTEGER_BITS else f"{value:#x}"),
    (float, lambda value: float.__float__(value) if math.isfinite(value) else None),
    (str, lambda value: value.encode("utf-8", "backslashreplace").decode()),
    (bytes, lambda value: value.decode("utf-8", "backslashreplace")),
)


def plain_fields(value: Any, *, depth: int = 0) -> dict[str, Any]:
    """The fields of a dataclass as plain JSON types."""
    return {field.name: plain(getattr(value, field.name), depth=depth) for field in dataclasses.fields(value)}


def _whole(value: Any, depth: int) -> Any:
    found: Any = None
    if callable(getattr(value, "to_json", None)) and not isinstance(value, type):
        found = plain(value.to_json(), depth=depth)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = plain_fields(value, depth=depth)
    elif isinstance(value, Mapping):
        found = {str(plain(key)): plain(item, depth=depth) for key, item in value.items()}
    elif isinstance(value, set | frozenset):
        found = sorted((plain(item, depth=depth) for item in value), key=str)
    elif isinstance(value, Iterable) and not hasattr(value, "__next__") and not hasattr(value, "__fspath__"):
        found = [plain(item, depth=depth) for item in value]
    else:
        found = plain(str(value))
    return found
