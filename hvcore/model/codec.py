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
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from hvcore.errors import InputError, RecordError

__all__ = ["DecodeError", "decode", "encode", "encoded", "sealed", "unsealed"]

T = TypeVar("T")
_Kinds = Mapping[str, type]
_Reader = Callable[[object, str, _Kinds], Any]  # of the data, its place, and the classes that may replace others


class DecodeError(RecordError):
    """The data does not match the type; the text names the place."""


def encode(value: object) -> Any:
    """The value as plain JSON types; dataclasses become objects with a ``kind``."""
    return json.loads(encoded(value))


def encoded(value: object) -> str:
    """The text of `encode`: one line of JSON, with sorted keys."""
    return json.dumps(value, default=_one_level, separators=(",", ":"), sort_keys=True)


def sealed(body: str) -> bytes:
    """The line of text with its CRC-32 in a second line: the contents of a file whose damage has to be seen."""
    return f"{body}\n".encode() + _seal(body.encode())


def unsealed(data: bytes) -> bytes | None:
    """The line that `sealed` has got; None if ``data`` is anything else."""
    body, _, rest = data.partition(b"\n")
    return body if rest == _seal(body) else None


def _seal(body: bytes) -> bytes:
    return f"crc32:{zlib.crc32(body):08x}\n".encode()


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
    return typing.cast("T", _reader(expected)(data, place, {kind.__name__: kind for kind in kinds}))


def _reader(expected: Any) -> _Reader:
    """The function that decodes a value of this type. A list decodes every record: the type is examined once."""
    origin, members = typing.get_origin(expected), typing.get_args(expected)
    if expected is Any or expected is object:
        return _as_it_is
    if origin in (typing.Union, types.UnionType):
        return functools.partial(_decode_union, _Union.of(members))
    if origin is tuple:
        return functools.partial(
            _decode_tuple, tuple(member if member is ... else _reader(member) for member in members)
        )
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_decode_mapping, _reader(members[1]))
    by: Callable[..., Any] = _decode_scalar
    if dataclasses.is_dataclass(expected):
        by = _decode_dataclass
    elif isinstance(expected, type) and issubclass(expected, enum.Enum):
        by = _decode_enum
    return functools.partial(by, types.NoneType if expected is type(None) else expected)


def _as_it_is(data: object, _place: str, _kinds: _Kinds) -> Any:
    return data


class _Union(typing.NamedTuple):
    """The members of a union, by what decides which of them the data is."""

    optional: bool
    by_name: dict[str, _Reader]
    simple: tuple[_Reader, ...]
    only: Any  # its dataclass, if it has one

    @classmethod
    def of(cls, members: tuple[Any, ...]) -> _Union:
        readers = {member: _reader(member) for member in members}
        classes = [member for member in members if dataclasses.is_dataclass(member)]
        return cls(
            optional=type(None) in members,
            by_name={member.__name__: readers[member] for member in reversed(members) if hasattr(member, "__name__")},
            simple=tuple(readers[each] for each in members if each is not type(None) and each not in classes),
            only=classes[0] if len(classes) == 1 else None,
        )


def _decode_union(union: _Union, data: object, place: str, kinds: _Kinds) -> Any:
    if data is None and union.optional:
        return None
    kind = data.get("kind") if isinstance(data, dict) else None
    if isinstance(kind, str) and kind in union.by_name:
        return union.by_name[kind](data, place, kinds)
    for read in union.simple:
        with contextlib.suppress(DecodeError):
            return read(data, place, kinds)
    if union.only is not None and (kind is None or "kind" in _readers(union.only)):
        return _decode_dataclass(union.only, data, place, kinds)
    raise DecodeError(f"{place}: none of the allowed kinds, got {data!r:.60}")


def _decode_tuple(members: tuple[Any, ...], data: object, place: str, kinds: _Kinds) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise DecodeError(f"{place}: must be a list, got {data!r:.60}")
    if len(members) == 2 and members[1] is Ellipsis:
        members = (members[0],) * len(data)
    if len(members) != len(data):
        raise DecodeError(f"{place}: must have {len(members)} items, got {len(data)}")
    pairs = zip(members, data, strict=True)
    return tuple(read(item, f"{place}[{index}]", kinds) for index, (read, item) in enumerate(pairs))


def _decode_mapping(read: _Reader, data: object, place: str, kinds: _Kinds) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise DecodeError(f"{place}: must be an object, got {data!r:.60}")
    if read is _as_it_is:  # a record has three of these, with a hundred values
        return dict(data)
    return {key: read(value, f"{place}.{key}", kinds) for key, value in data.items()}


def _decode_dataclass(expected: Any, data: object, place: str, kinds: _Kinds) -> Any:
    if not isinstance(data, dict):
        raise DecodeError(f"{place}: must be an object, got {data!r:.60}")
    expected = _class_of(expected, data, place, kinds)
    readers = _readers(expected)
    given = {key: value for key, value in data.items() if key != "kind" or "kind" in readers}
    if unknown := sorted(given.keys() - readers.keys()):
        raise DecodeError(f"{place}: unknown keys {', '.join(unknown)}")
    values = {key: readers[key](value, f"{place}.{key}", kinds) for key, value in given.items()}
    try:
        return expected(**values)
    except (TypeError, ValueError, InputError) as error:  # its own __post_init__ may refuse what has the right types
        raise DecodeError(f"{place}: {error}") from error


def _class_of(expected: type, data: dict[str, Any], place: str, kinds: _Kinds) -> Any:
    """The class that ``kind`` in the data names: the expected one, or one of ``kinds`` derived from it."""
    kind = data.get("kind")
    if kind is None or kind == expected.__name__ or "kind" in _readers(expected):
        return expected
    found = kinds.get(kind) if isinstance(kind, str) else None
    if found is None or not issubclass(found, expected):
        raise DecodeError(f"{place}: is a {kind!r:.60}, must be a {expected.__name__} that is known here")
    return found


def _decode_enum(expected: type[enum.Enum], data: object, place: str, _kinds: _Kinds) -> enum.Enum:
    try:
        return expected(data)
    except ValueError as error:
        raise DecodeError(f"{place}: {error}") from error


def _decode_scalar(expected: type, data: object, place: str, _kinds: _Kinds) -> Any:
    if expected is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError as error:
            raise DecodeError(f"{place}: is too large a number") from error
    if not isinstance(data, expected) or (expected is int and isinstance(data, bool)):
        raise DecodeError(f"{place}: must be {expected.__name__}, got {data!r:.60}")
    return data


@functools.cache
def _readers(expected: type) -> dict[str, _Reader]:
    """The reader of each field of a dataclass."""
    hints = typing.get_type_hints(expected)
    return {field.name: _reader(hints[field.name]) for field in dataclasses.fields(expected)}
