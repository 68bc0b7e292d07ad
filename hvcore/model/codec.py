"""Frozen dataclasses to plain JSON types and back, by their type hints.

Records hold specs this way, so a spec may use: str, int, float, bool, None, enums, tuples, ``dict[str, ...]``, other
frozen dataclasses, and unions of None or of dataclasses. The key ``kind`` has the class name of a dataclass, so the members
of a union have no field of that name. Classes derived from the declared one are arguments of `decode`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from hvcore.errors import InputError, RecordError

__all__ = ["DecodeError", "decode", "encode", "encoded"]

T = TypeVar("T")
_Kinds = Mapping[str, type]


class DecodeError(RecordError):
    """The data does not match the type; the text names the place."""


def encode(value: object) -> Any:
    """The value as plain JSON types; dataclasses become objects with a ``kind``."""
    return json.loads(encoded(value))


def encoded(value: object) -> str:
    """The text of `encode`: one line of JSON, with sorted keys."""
    return json.dumps(value, default=_one_level, separators=(",", ":"), sort_keys=True)


def _one_level(value: object) -> object:
    # Only for types that json does not know; it walks the rest in C. A start writes its record, with the spec, four times.
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **{name: getattr(value, name) for name in _field_names(type(value))}}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    msg = f"cannot encode a {type(value).__name__}"
    raise TypeError(msg)


@functools.cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def decode(expected: type[T], data: object, place: str = "record", *, kinds: Iterable[type] = ()) -> T:
    """The value of type ``expected`` that `encode` made ``data`` from. Raises `DecodeError` if the data does not match.

    Refuses keys that the type does not have: a record from a newer version is never half understood. ``kinds`` are
    dataclasses that may take the place of one that they are derived from.
    """
    return typing.cast("T", _decode(expected, data, place, {kind.__name__: kind for kind in kinds}))


def _decode(expected: Any, data: object, place: str, kinds: _Kinds) -> Any:
    origin = typing.get_origin(expected)
    if expected is Any or expected is object:
        return data
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(expected), data, place, kinds)
    if origin is tuple:
        return _decode_tuple(typing.get_args(expected), data, place, kinds)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise DecodeError(f"{place}: must be an object, got {data!r:.60}")
        item = typing.get_args(expected)[1]
        if item is not Any:  # else as it is: a record has three of these, with a hundred values
            data = {key: _decode(item, value, f"{place}.{key}", kinds) for key, value in data.items()}
        return dict(data)
    if dataclasses.is_dataclass(expected):
        return _decode_dataclass(expected, data, place, kinds)
    return _decode_scalar(expected, data, place)


def _decode_union(members: tuple[Any, ...], data: object, place: str, kinds: _Kinds) -> Any:
    if data is None and type(None) in members:
        return None
    kind = data.get("kind") if isinstance(data, dict) else None
    for member in members:
        if kind is not None and getattr(member, "__name__", None) == kind:
            return _decode(member, data, place, kinds)
    for member in members:
        if not dataclasses.is_dataclass(member) and member is not type(None):
            with contextlib.suppress(DecodeError):
                return _decode(member, data, place, kinds)
    only = [member for member in members if dataclasses.is_dataclass(member)]
    if len(only) == 1 and (kind is None or "kind" in _hints(typing.cast("type", only[0]))):
        return _decode(only[0], data, place, kinds)
    raise DecodeError(f"{place}: none of the allowed kinds, got {data!r:.60}")


def _decode_tuple(members: tuple[Any, ...], data: object, place: str, kinds: _Kinds) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise DecodeError(f"{place}: must be a list, got {data!r:.60}")
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(data)
    if len(members) != len(data):
        raise DecodeError(f"{place}: must have {len(members)} items, got {len(data)}")
    pairs = zip(members, data, strict=True)
    return tuple(_decode(member, item, f"{place}[{index}]", kinds) for index, (member, item) in enumerate(pairs))


def _decode_dataclass(expected: Any, data: object, place: str, kinds: _Kinds) -> Any:
    if not isinstance(data, dict):
        raise DecodeError(f"{place}: must be an object, got {data!r:.60}")
    expected = _class_of(expected, data, place, kinds)
    hints = _hints(expected)
    given = {key: value for key, value in data.items() if key != "kind" or "kind" in hints}
    if unknown := sorted(set(given) - set(hints)):
        raise DecodeError(f"{place}: unknown keys {', '.join(unknown)}")
    values = {key: _decode(hints[key], value, f"{place}.{key}", kinds) for key, value in given.items()}
    try:
        return expected(**values)
    except (TypeError, ValueError, InputError) as error:  # its own __post_init__ may refuse what has the right types
        raise DecodeError(f"{place}: {error}") from error


def _class_of(expected: type, data: dict[str, Any], place: str, kinds: _Kinds) -> Any:
    """The class that ``kind`` in the data names: the expected one, or one of ``kinds`` derived from it."""
    kind = data.get("kind")
    if kind is None or kind == expected.__name__ or "kind" in _hints(expected):
        return expected
    found = kinds.get(kind) if isinstance(kind, str) else None
    if found is None or not issubclass(found, expected):
        raise DecodeError(f"{place}: is a {kind!r:.60}, must be a {expected.__name__} that is known here")
    return found


def _decode_scalar(expected: Any, data: object, place: str) -> Any:
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        try:
            return expected(data)
        except ValueError as error:
            raise DecodeError(f"{place}: {error}") from error
    if expected is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError as error:
            raise DecodeError(f"{place}: is too large a number") from error
    if expected is type(None):
        expected = types.NoneType
    if not isinstance(data, expected) or (expected is int and isinstance(data, bool)):
        raise DecodeError(f"{place}: must be {expected.__name__}, got {data!r:.60}")
    return data


@functools.cache
def _hints(expected: type) -> dict[str, Any]:
    hints = typing.get_type_hints(expected)
    return {field.name: hints[field.name] for field in dataclasses.fields(expected)}
