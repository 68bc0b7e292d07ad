"""Parameter types for plain values. Each function returns a `ParamType`.

All types are strict, because TOML, JSON and programs have types: ``true`` is not 1, ``1.9`` is not 1, ``"512"`` is not 512,
``[1]`` is not true. `hvcore.params.host_types` has the types for things of the node.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hvcore import units
from hvcore.params.param import PATTERN_END, ParamType, Reject, wrong_type
from hvcore.params.words import nearest

__all__ = ["boolean", "integer", "line", "list_of", "name", "one_of", "port", "regexp", "seconds", "size_mib", "text"]

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


def boolean() -> ParamType:
    """``true`` or ``false``, and no other value, such as ``"true"`` or 1."""

    def parse(value: object) -> bool:
        if value is True or value is False:
            return value
        word = value.lower() if isinstance(value, str) else ""
        todo = {"true": "write true without quotes", "false": "write false without quotes"}.get(word)
        raise wrong_type(value, "true or false", todo)

    return ParamType("boolean", "true or false", parse, {"type": "boolean"})


def integer(minimum: int | None = None, maximum: int | None = None) -> ParamType:
    """A whole number within limits, both allowed; without them, within 64 bits with a sign."""
    low, high = _INT_MIN if minimum is None else minimum, _INT_MAX if maximum is None else maximum
    if minimum is None:
        limits = "" if maximum is None else f" of at most {high}"
    else:
        limits = f" of at least {low}" if maximum is None else f" from {low} to {high}"
    return _integer("integer", f"a whole number{limits}", low, high)


def port(minimum: int = 1) -> ParamType:
    """A TCP or UDP port, from ``minimum`` to 65535, both allowed."""
    return _integer("port", f"a port number from {minimum} to 65535", minimum, 65535)


def _integer(kind: str, expects: str, low: int, high: int) -> ParamType:
    def parse(value: object) -> int:
        if type(value) is int and low <= value <= high:
            return value
        return _whole_number(value, low, high)

    return ParamType(kind, expects, parse, {"type": "integer", "minimum": low, "maximum": high})


def _whole_number(value: object, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        digits = isinstance(value, str) and re.fullmatch("-?[0-9]{1,19}", value)
        raise wrong_type(value, "a whole number", "write the number without quotes" if digits else None)
    if value < low:
        raise Reject(f"is below the minimum of {low}")
    if value > high:
        raise Reject(f"is above the maximum of {high}")
    return int.__int__(value)


def one_of(
    *choices: int | str | Mapping[str, str] | Mapping[int, str], refused: Mapping[str, str] | None = None
) -> ParamType:
    """One of a fixed set, of texts only or of whole numbers only: ``one_of({"bios": "Start with SeaBIOS.", ...})``.

    The mapping gives each choice a sentence on what it does. Choices whose meaning is their value are listed instead:
    ``one_of(9600, 115200)``. ``refused`` has values known from elsewhere, each with the reason why it is not a choice
    here: ``is ...``.
    """
    meanings = _meanings(choices)
    words = tuple(choice for choice in meanings if isinstance(choice, str))
    if not meanings or len(words) not in (0, len(meanings)) or any(isinstance(choice, bool) for choice in meanings):
        raise TypeError("one_of() needs choices that are all texts or all whole numbers")
    known: dict[object, int | str] = {choice: choice for choice in meanings}
    listed = ", ".join(map(repr, meanings))
    plain = str if words else int

    def parse(value: object) -> int | str:
        if type(value) is plain and value in known:
            return value
        if isinstance(value, str if words else int) and not isinstance(value, bool):
            found = known.get(value)
            if found is not None:
                return found
            if isinstance(value, str) and refused is not None and value in refused:
                raise Reject(refused[value])
            near = nearest(value, words) if isinstance(value, str) else None
            raise Reject("is not a known choice", f"did you mean {near!r}? give one of {listed}" if near else None)
        raise wrong_type(value, "a text" if words else "a whole number")

    schema: dict[str, Any] = {"enum": list(meanings)}
    if any(meanings.values()):
        schema = {"oneOf": [{"const": choice, "description": meaning} for choice, meaning in meanings.items()]}
    expects = f"one of {listed}" if len(meanings) > 1 else listed
    return ParamType("one of", expects, parse, schema, choices=meanings)


def _meanings(choices: tuple[Any, ...]) -> dict[int | str, str]:
    if len(choices) != 1 or not isinstance(choices[0], Mapping):
        return dict.fromkeys(choices, "")
    for choice, meaning in choices[0].items():
        if not isinstance(meaning, str) or not meaning.endswith(".") or meaning != " ".join(meaning.split()):
            raise TypeError(f"one_of(): the meaning of {choice!r} is not a sentence on one line with a full stop")
    return dict(choices[0])


def size_mib(minimum: int = 1, maximum: int | None = None) -> ParamType:
    """A size in MiB: a whole number of MiB, or a text with a unit such as ``"2G"``. The clean value is the number."""
    low, high = minimum, units.MAX_MIB if maximum is None else maximum
    least = units.format_mib(low)
    limits = f"of at least {least}" if maximum is None else f"from {least} to {units.format_mib(high)}"

    def parse(value: object) -> int:
        if type(value) is int and low <= value <= high:
            return value
        return _size(value, low, high)

    numbers = {"type": "integer", "minimum": low, "maximum": high}
    words = {
        "type": "string",
        "maxLength": units.LONGEST_SIZE,
        "pattern": rf"^[0-9]{{1,19}}(?:\.[0-9]{{1,9}})? ?[KMGTPkmgtp](?:[iI][bB])?{PATTERN_END}",
    }
    expects = f"a size {limits}, as a number of MiB or a text such as '2G'"
    return ParamType("size", expects, parse, {"anyOf": [numbers, words]})


def _size(value: object, low: int, high: int) -> int:
    size = value
    if isinstance(value, str):
        try:
            size = units.parse_mib(value)
        except ValueError as error:
            raise Reject(str(error)) from None
    if isinstance(size, bool) or not isinstance(size, int):
        raise wrong_type(value, "a size")
    if size < low:
        raise Reject(f"is below the minimum of {units.format_mib(low)}")
    if size > high:
        raise Reject(f"is above the maximum of {units.format_mib(high)}")
    return int.__int__(size)


def seconds(minimum: float = 0, maximum: float = 86400 * 365) -> ParamType:
    """A time in seconds, with or without a fraction, within limits, both allowed. The clean value is a float."""
    low, high = float(minimum), float(maximum)

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(value, "a number of seconds")
        if low <= value <= high:
            return float(value)
        if isinstance(value, float) and not math.isfinite(value):
            raise Reject("is not a finite number")
        raise Reject(f"is below the minimum of {low:g} s" if value < low else f"is above the maximum of {high:g} s")

    expects = f"a number of seconds from {low:g} to {high:g}"
    return ParamType("seconds", expects, parse, {"type": "number", "minimum": low, "maximum": high})


# C0, DEL, C1, the two Unicode line ends, and surrogates, which no UTF-8 text can hold.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_CONTROL = {"not": {"pattern": r"[\u0000-\u001f\u007f-\u009f\u2028\u2029]"}}


def text(max_bytes: int = 1024, *, empty: bool = False) -> ParamType:
    """One line of text, at most ``max_bytes`` in UTF-8, without control characters."""
    expects = f"one line of text of at most {max_bytes} bytes"

    def parse(value: object) -> str:
        return line(value, max_bytes, empty=empty)

    schema = {"type": "string", "minLength": 0 if empty else 1, "maxLength": max_bytes, **_NOT_CONTROL}
    return ParamType("text", expects, parse, schema)


def line(value: object, max_bytes: int, *, empty: bool = False) -> str:
    """``value`` as one clean line of at most ``max_bytes`` in UTF-8, for other types to build on; or `Reject`."""
    if not isinstance(value, str):
        raise wrong_type(value, "a text")
    if type(value) is str and value.isascii() and value.isprintable() and 0 < len(value) <= max_bytes:
        return value
    if not value and not empty:
        raise Reject("is empty")
    if len(value) > max_bytes:
        raise Reject(f"is longer than {max_bytes} bytes")
    if (found := _CONTROL.search(value)) is not None:
        raise Reject(f"has the control character {found[0]!a}")
    if len(value.encode()) > max_bytes:
        raise Reject(f"is longer than {max_bytes} bytes")
    return str.__str__(value)


def regexp(pattern: str, what: str, *, max_bytes: int = 1024) -> ParamType:
    """One line of text that ``pattern`` matches as a whole; ``what`` completes "give ...".

    Character classes are ASCII. The pattern must mean the same in Python and ECMA regular expressions, for JSON Schema.
    """
    return _matching("text", re.compile(pattern, re.ASCII), what, max_bytes)


def name(max_bytes: int = 64) -> ParamType:
    """A name, such as that of a user or a machine type: never an option, a path or two words."""
    what = f"a name of at most {max_bytes} letters, digits, '_', '.', '+' and '-', that does not begin with '-' or '.'"
    return _matching("name", re.compile("[A-Za-z0-9_][A-Za-z0-9_.+-]*"), what, max_bytes)


def _matching(kind: str, pattern: re.Pattern[str], what: str, max_bytes: int) -> ParamType:
    def parse(value: object) -> str:
        clean = line(value, max_bytes, empty=True)
        if pattern.fullmatch(clean) is None:
            raise Reject("is not of the right form")
        return clean

    schema = {
        "type": "string",
        "maxLength": max_bytes,
        "pattern": f"^(?:{pattern.pattern}){PATTERN_END}",
        **_NOT_CONTROL,
    }
    return ParamType(kind, what, parse, schema)


def list_of(item: ParamType, *, maximum: int = 64, repeats: bool = False, one: bool = False) -> ParamType:
    """A list of at most ``maximum`` values of type ``item``. The clean value is a tuple, in order.

    The values must differ, unless ``repeats``: the words of a command may be the same. With ``one``, a text without brackets
    is a list of that one value.
    """
    expects = f"a list of at most {maximum} {'' if repeats else 'different '}values, each {item.expects}"
    if one:
        expects = f"{item.expects}, or {expects}"

    def parse(value: object) -> tuple[object, ...]:
        if one and isinstance(value, str):
            return (item.parse(value),)
        if not isinstance(value, list | tuple):
            todo = "write it in brackets, [...]" if isinstance(value, str | int) else None
            raise wrong_type(value, "a list", todo)
        if len(value) > maximum:
            raise Reject(f"has more than {maximum} values")
        return _members(item, value, repeats=repeats)

    schema = {"type": "array", "items": item.json_schema(), "maxItems": maximum}
    if not repeats:
        schema["uniqueItems"] = True
    if one:
        schema = {"anyOf": [item.json_schema(), schema]}
    return ParamType(f"list of {item.kind}", expects, parse, schema, item.node_check, item.choices)


def _members(item: ParamType, values: Sequence[object], *, repeats: bool) -> tuple[object, ...]:
    clean: list[object] = []
    for index, member in enumerate(values):
        try:
            parsed = item.parse(member)
        except Reject as reject:
            raise Reject(f"{reject.what} (value {index + 1} of the list)", reject.todo) from None
        if not repeats and parsed in clean:
            raise Reject(f"has a value twice (value {index + 1} of the list)", "leave one out")
        clean.append(parsed)
    return tuple(clean)
