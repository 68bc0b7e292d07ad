"""Descriptions of parameters for readers and programs: rows, text, Markdown, JSON Schema. All deterministic."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hvcore.frozen import dataclass
from hvcore.params.values import DEFAULT, REDACTED, UNSET, Params

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.params.param import Param, ParamGroup
    from hvcore.params.schema import Schema

__all__ = [
    "LOOSER",
    "ParamRow",
    "default_of",
    "field_rows",
    "json_schema",
    "markdown",
    "rows",
    "section",
    "table_schema",
]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
LOOSER = (
    "hv check is stricter than JSON Schema can be: 3.0 is not a whole number, lengths count bytes in UTF-8, a component of "
    "a path has at most 255, a size or a CPU mask is read, a key is not set and also in unset, a driver compares values."
)
"""Where the JSON Schema accepts more than the check. It never accepts less."""

_EFFECT = {
    "start": "at the next start",
    "launch": "at the next launch of the process",
    "live": "at once in a later release; in this one at the next launch of the process",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamRow:
    """One parameter as it is shown. ``default`` and ``example`` are clean values or None; those of a secret ``<secret>``.

    ``group`` and ``owner`` are the device family and the plugin. ``value`` and ``layer`` are those of an instance on this
    node that does not set it: the default, or the value of the node or a profile. ``schema`` is the parameter's part of
    the JSON Schema. ``choices`` has each choice with its meaning, '' where it needs none.
    ``deprecated`` says what to do instead, None for one that stays.
    """

    key: str
    group: str
    owner: str
    kind: str
    expects: str
    unit: str | None
    choices: dict[str, str]
    default: Any
    default_means: str | None
    required: bool
    secret: bool
    changes: str
    since: str
    help: str
    example: Any
    value: Any
    layer: str
    deprecated: str | None
    removed_in: str | None
    schema: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        return {
            **asdict(self),
            "default": _listed(self.default),
            "value": _listed(self.value),
            "example": _listed(self.example),
        }

    def text(self) -> str:
        """All of it as lines of plain text: name, meaning, value, each choice, default, example and so on."""
        facts = [f"{'    ' * (depth + 1)}{label}: {words}" for depth, label, words in _facts(self, str, str)]
        return "\n".join([self.key, f"    {self.help}", "", *facts])


def rows(schema: Schema, params: Params | None = None) -> tuple[ParamRow, ...]:
    """All parameters, in the order of the schema's groups; with the values of ``params`` beside the defaults."""
    return tuple(_row(schema.owner(param.key), group.name, param, params) for group in schema.groups for param in group)


def field_rows(group: ParamGroup) -> tuple[ParamRow, ...]:
    """The rows of the keys of a table of the instance file, such as ``disks.path``."""
    prefix = f"{group.name}." if group.name else ""
    return tuple(replace(_row("hvcore", group.name, param), key=f"{prefix}{param.key}") for param in group)


def _row(owner: str, group: str, param: Param, params: Params | None = None) -> ParamRow:
    return ParamRow(
        key=param.key,
        group=group,
        owner=owner,
        kind=param.type.kind,
        expects=param.type.expects,
        unit=param.unit,
        choices={str(choice): meaning for choice, meaning in param.type.choices.items()},
        default=_shown(param, param.default),
        default_means=param.default_means,
        required=param.required,
        secret=param.secret,
        changes=param.changes,
        since=param.since,
        help=param.help,
        example=_shown(param, param.example),
        value=_shown(param, param.default if params is None else params[param.key]),
        layer=DEFAULT if params is None else params.layer(param.key),
        deprecated=param.deprecated,
        removed_in=param.removed_in,
        schema=_property(owner, group, param),
    )


def _shown(param: Param | ParamRow, value: object) -> object:
    return REDACTED if param.secret and value is not None else value


def markdown(schema: Schema) -> str:
    """A chapter for each group, a heading for each parameter, values as TOML has them; ends with a newline."""
    return "\n".join(part for group in schema.groups for part in _chapter(schema, group))


def _chapter(schema: Schema, group: ParamGroup) -> Iterator[str]:
    yield f"## {group.name}\n"
    if group.help:
        yield f"{_text(group.help, schema.params)}\n"
    for param in group:
        yield section(_row(schema.owner(param.key), group.name, param), schema.params)


def section(row: ParamRow, known: Collection[str]) -> str:
    """A heading and all facts of one parameter in Markdown; names of the ``known`` ones are links within the page."""

    def text(words: str) -> str:
        return _text(words, known)

    facts = [f"{'  ' * depth}- {label}: {words}" for depth, label, words in _facts(row, text, lambda code: f"`{code}`")]
    return "\n".join([f"### `{row.key}`", "", text(row.help), "", *facts, ""])


_Spell = Callable[[str], str]


def _facts(row: ParamRow, text: _Spell, code: _Spell) -> Iterator[tuple[int, str, str]]:
    """Each fact as depth, label and words; ``text`` and ``code`` spell prose and values as the page or terminal has them."""
    unit = f", in {row.unit}" if row.unit else ""
    yield 0, "Value", text(f"{row.expects}{unit}{' (secret)' if row.secret else ''}")
    if any(row.choices.values()):
        yield from ((1, code(choice), text(meaning)) for choice, meaning in row.choices.items())
    yield 0, "Default", default_of(row, text, code)
    if row.layer != DEFAULT:
        yield 0, "On this node", f"{code(_toml(row.value))} ({row.layer})"
    if row.example is not None:
        yield 0, "Example", code(f"{row.key.rpartition('.')[2]} = {_toml(row.example)}")
    yield 0, "A change takes effect", _EFFECT[row.changes]
    yield 0, "Since", row.since
    if row.deprecated is not None:
        yield 0, "Deprecated", f"will be removed in release {row.removed_in}; {text(row.deprecated)}"


def default_of(param: Param | ParamRow, text: _Spell = str, code: _Spell = str) -> str:
    """The default as TOML has it, with what it means: ``0, QEMU decides``."""
    if param.required:
        return "none (required)"
    value = "" if param.default is None else code(_toml(_shown(param, param.default)))
    return ", ".join(filter(None, (value, text(param.default_means or "")))) or "unset"


def _text(words: str, known: Collection[str]) -> str:
    """Prose without markup. The name of a parameter becomes a link to it, other names become code."""

    def safe(found: re.Match[str]) -> str:
        word = found[0]
        if len(word) == 1:
            return f"\\{word}"
        return f"[`{word}`](#{word})" if word in known else f"`{word}`"

    return re.sub(r"(?<![\w/.-])[a-z0-9]+(?:_[a-z0-9]+)+(?![\w/-])|[\\`*_<\[]", safe, words)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def json_schema(schema: Schema, *, title: str) -> dict[str, Any]:
    """All parameters as JSON Schema (draft 2020-12): an object without further properties.

    Annotations have the rest: ``x-unit``, ``x-since``, ``x-changes``, ``x-group``, ``x-owner``,
    ``x-node-check``, and for one that is deprecated ``x-instead`` and ``x-removed-in``; a secret is ``writeOnly``.
    """
    properties = {
        param.key: _property(schema.owner(param.key), group.name, param) for group in schema.groups for param in group
    }
    if properties:
        names = {"type": "string", "enum": sorted(properties)}
        what = "Parameters to set back to the driver's default, regardless of node and profile."
        properties[UNSET] = {"type": "array", "items": names, "description": what}
    whole: dict[str, Any] = {
        "$schema": _DIALECT,
        "$comment": LOOSER,
        "title": title,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    required = [key for key, param in schema.params.items() if param.required]
    return {**whole, "required": required} if required else whole


def table_schema(
    group: ParamGroup, more: Mapping[str, Any] = MappingProxyType({}), required: Sequence[str] = ()
) -> dict[str, Any]:
    """The JSON Schema of a table of the instance file: keys of the group, which may be null if not required, and others."""
    keys = {param.key: _property("hvcore", group.name, param) for param in group}
    for param in group:
        if not param.required and not param.optional:
            keys[param.key] = {"anyOf": [param.type.json_schema(), {"type": "null"}], **_without(keys[param.key])}
    needed = [*required, *(param.key for param in group if param.required)]
    return {
        "type": "object",
        "properties": {**more, **keys},
        "additionalProperties": False,
        **({"required": needed} if needed else {}),
    }


def _without(shape: Mapping[str, Any]) -> dict[str, Any]:
    notes = ("description", "default", "examples", "writeOnly")
    return {key: value for key, value in shape.items() if key in notes or key.startswith("x-")}


def _listed(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _property(owner: str, group: str, param: Param) -> dict[str, Any]:
    value = param.type.json_schema()
    shape = {"anyOf": [value, {"type": "null"}]} if param.optional else value
    default = f" Default: {default_of(param)}." if param.default_means else ""
    notes: dict[str, Any] = {"description": param.help + default}
    if not param.secret:
        if param.default is not None:
            notes["default"] = _listed(param.default)
        if param.example is not None:
            notes["examples"] = [_listed(param.example)]
    else:
        notes["writeOnly"] = True
    if param.unit:
        notes["x-unit"] = param.unit
    if param.type.node_check is not None:
        notes["x-node-check"] = param.type.node_check.value
    if param.deprecated is not None:
        notes |= {"deprecated": True, "x-instead": param.deprecated, "x-removed-in": param.removed_in}
    notes |= {"x-since": param.since, "x-changes": param.changes, "x-group": group, "x-owner": owner}
    return {**shape, **notes}
