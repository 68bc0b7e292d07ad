"""TOML as text: one value or one table of a document is changed, and everything else of it stays, comments too.

Each change is proved: the new text has to read as the data with exactly that change. A text in which that is not possible,
such as a table that is written inline, is refused with `TomlTextError`, and an editor has to do it.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["TomlTextError", "toml_of", "with_table", "with_value", "without_table", "without_value"]

Place = tuple[str | int, ...]

_BARE: Final = re.compile("[A-Za-z0-9_-]+")
_KEY: Final = re.compile(r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[ \t.])+""")
_TOKEN: Final = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""{1,3}'''  # a text of several lines may end in one or two quotes of its own
    r"""|'''.*?'''{1,3}"""
    r"""|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'"""
    r"""|\#[^\n]*|[\[{]|[\]}]|\n|[^"'\#\[\]{}\n]+""",
    re.DOTALL,
)
_UNUSUAL: Final = "is written in a form that only an editor can change"
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|\#[^\n]*)*")


class TomlTextError(ValueError):
    """The text cannot be changed without an editor; says why."""


class _Statement(NamedTuple):
    """A header or a key with its value: where it is in the text, and the place of its table or value in the data."""

    header: bool
    place: Place
    start: int
    value: int  # where the value begins; of a header its start
    end: int


def with_value(text: str, place: Place, value: object) -> str:
    """The text with that value at ``place``, such as ``("params", "kernel_path")`` or ``("disks", 0, "path")``.

    A key that is missing is added at the end of its table. Raises `TomlTextError`.
    """
    wanted = _parsed(text)
    _put(wanted, place, value)
    found = list(_statements(text))
    own = next((one for one in found if not one.header and one.place == place), None)
    if own is not None:
        return _proved(f"{text[: own.value]}{_written(value)}{text[own.end :]}", wanted)
    line = f"{_key(str(place[-1]))} = {_written(value)}"
    last = _last_of(found, place[:-1])
    if last is not None:
        return _proved(_inserted(text, last.end, line), wanted)
    if len(place) == 1:  # before the first table, or in an empty text
        start = next((one.start for one in found), len(text))
        return _proved(f"{text[:start]}{line}{_newline(text)}{text[start:]}", wanted)
    if len(place) == 2:
        return _proved(_appended(text, f"[{_key(str(place[0]))}]", line), wanted)
    raise TomlTextError(_UNUSUAL)


def with_table(text: str, key: str, values: Mapping[str, Any]) -> str:
    """The text with one more table ``[[key]]`` at its end. Raises `TomlTextError`."""
    wanted = _parsed(text)
    wanted[key] = [*wanted.get(key, []), dict(values)]
    lines = [f"{_key(name)} = {_written(value)}" for name, value in values.items()]
    return _proved(_appended(text, f"[[{_key(key)}]]", *lines), wanted)


def without_table(text: str, key: str, index: int) -> str:
    """The text without the table ``[[key]]`` of that number, counted from 0. Raises `TomlTextError`."""
    wanted = _parsed(text)
    place: Place = (key, index)
    own = [one for one in _statements(text) if one.place[:2] == place]
    if not own or not own[0].header:
        raise TomlTextError(f"has no table [[{key}]] {index} that can be removed")
    del wanted[key][index]
    if not wanted[key]:
        del wanted[key]
    before, after = text[: own[0].start], text[own[-1].end :].partition("\n")
    return _proved(f"{before}{after[2].lstrip() if not before.strip() else after[2]}", wanted)


def without_value(text: str, place: Place) -> str:
    """The text without the value at ``place``, and without its line; as it is if there is no such value.

    Raises `TomlTextError`.
    """
    wanted = _parsed(text)
    if not _take(wanted, place):
        return text
    own = next((one for one in _statements(text) if not one.header and one.place == place), None)
    if own is None:
        raise TomlTextError(_UNUSUAL)
    start = text.rfind("\n", 0, own.start) + 1
    return _proved(f"{text[:start]}{text[own.end :].partition(chr(10))[2]}", wanted)


def _take(data: Any, place: Place) -> bool:
    """Remove the value at that place of the data; whether there was one."""
    try:
        for step in place[:-1]:
            data = data[step]
        del data[place[-1]]
    except (LookupError, TypeError):
        return False
    return True


def toml_of(data: Mapping[str, Any]) -> str:
    """The data as a document: its values, then its tables. None is left out. Raises `TomlTextError` for other types."""
    given = {key: value for key, value in data.items() if value is not None}
    tables = {key: value for key, value in given.items() if isinstance(value, Mapping) or _is_tables(value)}
    lines = [f"{_key(key)} = {_written(value)}" for key, value in given.items() if key not in tables]
    for key, value in tables.items():
        head, rows = (f"[{_key(key)}]", [value]) if isinstance(value, Mapping) else (f"[[{_key(key)}]]", value)
        for row in rows:
            lines += ["", head, *(f"{_key(name)} = {_written(one)}" for name, one in row.items() if one is not None)]
    return "\n".join([*lines, ""]).lstrip("\n")


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _parsed(text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - 3.2 ms, for those who change a file

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise TomlTextError(f"is not TOML ({error})") from error


def _proved(text: str, wanted: Mapping[str, Any]) -> str:
    try:
        found = _parsed(text)
    except TomlTextError:
        found = None
    if found != wanted:
        raise TomlTextError(_UNUSUAL)
    return text


def _put(data: dict[str, Any], place: Place, value: object) -> None:
    table: Any = data
    try:
        for step in place[:-1]:
            table = table.setdefault(step, {}) if isinstance(table, dict) else table[step]
        table[place[-1]] = copy.deepcopy(value)
    except (LookupError, TypeError, AttributeError) as error:
        raise TomlTextError(f"has no table {_shown(place[:-1])}") from error


def _shown(place: Place) -> str:
    return ".".join(map(str, place))


def _statements(text: str) -> Iterator[_Statement]:
    """The statements of a text that is TOML, in its order."""
    at, prefix, counts = 0, (), {}  # type: int, Place, dict[Place, int]
    while True:
        at = _BLANK.match(text, at).end()  # type: ignore[union-attr]  # it matches everywhere
        if at >= len(text):
            return
        start = at
        if text[at] == "[":
            several = text.startswith("[[", at)
            key = _match(_KEY, text, at + 1 + several)
            at = key.end() + 1 + several
            prefix = _header(_path(key[0]), counts, several=several)
            yield _Statement(header=True, place=prefix, start=start, value=start, end=at)
        else:
            key = _match(_KEY, text, at)
            value = _match(re.compile("=[ \t]*"), text, key.end()).end()
            at = _end_of_value(text, value)
            yield _Statement(header=False, place=(*prefix, *_path(key[0])), start=start, value=value, end=at)


def _header(path: Sequence[str], counts: dict[Place, int], *, several: bool) -> Place:
    """The place of the table in a header. A table below an array of tables belongs to its last one."""
    place: Place = ()
    for number, step in enumerate(path, 1):
        place = (*place, step)
        if several and number == len(path):
            counts[place] = counts.get(place, -1) + 1
        if place in counts:
            place = (*place, counts[place])
    return place


def _end_of_value(text: str, at: int) -> int:
    """Where the value at ``at`` ends, without spaces and a comment behind it."""
    depth, end = 0, at
    while at < len(text):
        token = _match(_TOKEN, text, at)
        word = token[0]
        if depth == 0 and (word == "\n" or word[0] == "#"):
            break
        depth += (word in {"[", "{"}) - (word in {"]", "}"})
        at = token.end()
        end = token.start() + len(word.rstrip()) if word.strip() else end
    return end


def _match(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise TomlTextError(f"{_UNUSUAL}, at character {at}")
    return found


def _path(key: str) -> list[str]:
    """The parts of a key, such as ``a."b.c"``."""
    path, table = [], _parsed(f"{key.strip()} = 0")
    while isinstance(table, dict):
        [(part, table)] = table.items()
        path.append(part)
    return path


def _last_of(found: Sequence[_Statement], table: Place) -> _Statement | None:
    """The statement after which a key of that table can stand: its last value, or its header."""
    own = [one for one in found if (one.place if one.header else one.place[:-1]) == table]
    return own[-1] if own else None


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _inserted(text: str, at: int, line: str) -> str:
    """The text with one more line after the line of that position."""
    end = text.find("\n", at)
    if end < 0:
        return f"{text}{_newline(text)}{line}{_newline(text)}"
    return f"{text[: end + 1]}{line}{_newline(text)}{text[end + 1 :]}"


def _appended(text: str, *lines: str) -> str:
    newline = _newline(text)
    gap = "" if not text.strip() else newline if text.endswith("\n") else newline * 2
    return f"{text}{gap}{newline.join(lines)}{newline}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    # The escapes of JSON are among those of TOML, but TOML has no surrogates and wants DEL escaped.
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TomlTextError(f"cannot have the text {text!r:.80}, which is not Unicode") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _written(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case str():
            return _quoted(value)
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case Mapping():
            pairs = (f"{_key(str(key))} = {_written(one)}" for key, one in value.items() if one is not None)
            return f"{{ {', '.join(pairs)} }}" if value else "{}"
    raise TomlTextError(f"cannot have {value!r:.80}")
