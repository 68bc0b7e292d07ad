"""What a schema says, for readers and other programs: rows, Markdown, and JSON Schema. All deterministic."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hvcore.params.values import DEFAULT, REDACTED, UNSET, Params

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hvcore.params.param import Param, ParamGroup
    from hvcore.params.schema import Schema

__all__ = ["ParamRow", "json_schema", "markdown", "rows"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EFFECT = {
    "start": "at the next start",
    "launch": "at the next launch of the process",
    "live": "at once; today at the next launch of the process",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamRow:
    """One parameter as it is shown. ``default`` and ``example`` are clean values or None; a secret's read ``<secret>``.

    ``group`` and ``owner`` are the device family and the plugin it comes from. ``value`` and ``layer`` say what an
    instance gets here that does not set it: the default, or what the node or a profile has for it. ``schema`` is the
    parameter's own part of the JSON Schema. ``deprecated`` says what to do instead, None for one that stays.
    """

    key: str
    group: str
    owner: str
    kind: str
    expects: str
    unit: str | None
    default: Any
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
        return asdict(self)


def rows(schema: Schema, params: Params | None = None) -> tuple[ParamRow, ...]:
    """All parameters, in the order of the schema's groups; with the values of ``params`` beside the defaults."""
    return tuple(_row(schema, group.name, param, params) for group in schema.groups for param in group)


def _row(schema: Schema, group: str, param: Param, params: Params | None = None) -> ParamRow:
    return ParamRow(
        key=param.key,
        group=group,
        owner=schema.owner(param.key),
        kind=param.type.kind,
        expects=param.type.expects,
        unit=param.unit,
        default=_shown(param, param.default),
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
        schema=_property(schema, group, param),
    )


def _shown(param: Param, value: object) -> object:
    return REDACTED if param.secret and value is not None else value


def markdown(schema: Schema) -> str:
    """A chapter for each group, a heading for each parameter, values as TOML has them; ends with a newline."""
    return "\n".join(part for group in schema.groups for part in _chapter(schema, group))


def _chapter(schema: Schema, group: ParamGroup) -> Iterator[str]:
    yield f"## {group.name}\n"
    if group.help:
        yield f"{_text(schema, group.help)}\n"
    for param in group:
        yield _section(schema, _row(schema, group.name, param))


def _section(schema: Schema, row: ParamRow) -> str:
    value = row.expects + (f", in {row.unit}" if row.unit else "") + (" (secret)" if row.secret else "")
    unset = "none, it has to be set" if row.required else "unset"
    facts = {
        "Value": _text(schema, value),
        "Default": unset if row.default is None else f"`{_toml(row.default)}`",
        "A change takes effect": _EFFECT[row.changes],
        "Since": row.since,
    }
    if row.deprecated is not None:
        facts["Deprecated"] = f"goes in release {row.removed_in}; {_text(schema, row.deprecated)}"
    if row.example is not None:
        facts["Example"] = f"`{row.key} = {_toml(row.example)}`"
    lines = [f"- {name}: {words}" for name, words in facts.items()]
    return "\n".join([f"### `{row.key}`", "", _text(schema, row.help), "", *lines, ""])


def _text(schema: Schema, words: str) -> str:
    """Text as text: nothing in it is markup. The name of a parameter leads to it, other names in it are code."""

    def safe(found: re.Match[str]) -> str:
        word = found[0]
        if len(word) == 1:
            return f"\\{word}"
        return f"[`{word}`](#{word})" if word in schema.params else f"`{word}`"

    return re.sub(r"(?<![\w/.-])[a-z0-9]+(?:_[a-z0-9]+)+(?![\w/-])|[\\`*_<\[]", safe, words)


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def json_schema(schema: Schema, *, title: str) -> dict[str, Any]:
    """The whole as JSON Schema (draft 2020-12): an object without further properties.

    What it has no word for is an annotation: ``x-unit``, ``x-since``, ``x-changes``, ``x-group``, ``x-owner``,
    ``x-node-check``, and for one that is deprecated ``x-instead`` and ``x-removed-in``; a secret is ``writeOnly``.
    """
    properties = {param.key: _property(schema, group.name, param) for group in schema.groups for param in group}
    if properties:
        names = {"type": "string", "enum": sorted(properties)}
        what = "Parameters that get back the driver's own default, whatever the node or the profile sets."
        properties[UNSET] = {"type": "array", "items": names, "description": what}
    whole: dict[str, Any] = {
        "$schema": _DIALECT,
        "title": title,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    required = [key for key, param in schema.params.items() if param.required]
    return {**whole, "required": required} if required else whole


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _property(schema: Schema, group: str, param: Param) -> dict[str, Any]:
    value = param.type.json_schema()
    shape = {"anyOf": [value, {"type": "null"}]} if param.optional else value
    notes: dict[str, Any] = {"description": param.help}
    if not param.secret:
        if param.default is not None:
            notes["default"] = _plain(param.default)
        if param.example is not None:
            notes["examples"] = [_plain(param.example)]
    else:
        notes["writeOnly"] = True
    if param.unit:
        notes["x-unit"] = param.unit
    if param.type.node_check is not None:
        notes["x-node-check"] = param.type.node_check.value
    if param.deprecated is not None:
        notes |= {"deprecated": True, "x-instead": param.deprecated, "x-removed-in": param.removed_in}
    notes |= {"x-since": param.since, "x-changes": param.changes, "x-group": group, "x-owner": schema.owner(param.key)}
    return {**shape, **notes}
