"""What a schema says, for readers and other programs: rows, a Markdown table, and JSON Schema. All deterministic."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hvcore.params.values import DEFAULT, REDACTED, UNSET, Params

if TYPE_CHECKING:
    from hvcore.params.param import Param
    from hvcore.params.schema import Schema

__all__ = ["ParamRow", "json_schema", "markdown", "rows"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EFFECT = {"start": "next start", "launch": "next launch", "live": "at once"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamRow:
    """One parameter as it is shown. ``default`` and ``example`` are clean values or None; a secret's read ``<secret>``.

    ``group`` and ``owner`` are the device family and the plugin it comes from. ``value`` and ``layer`` say what an
    instance gets here that does not set it: the default, or what the node or a profile has for it.
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
    )


def _shown(param: Param, value: object) -> object:
    return REDACTED if param.secret and value is not None else value


def markdown(schema: Schema) -> str:
    """A table for each group under a heading, values as TOML has them, ending with a newline."""
    parts = []
    for group in schema.groups:
        lines = [f"## {group.name}", ""]
        if group.help:
            lines += [group.help, ""]
        lines += ["| parameter | value | default | takes effect | since | meaning |", "|---|---|---|---|---|---|"]
        lines += [_line(_row(schema, group.name, param)) for param in group]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(row: ParamRow) -> str:
    value = row.expects + (f", in {row.unit}" if row.unit else "") + (" (secret)" if row.secret else "")
    unset = "required" if row.required else "unset"
    default = unset if row.default is None else _code(row.default)
    meaning = _cell(row.help) + ("" if row.example is None else f" Example: {_code(row.example)}.")
    cells = (f"`{row.key}`", _cell(value), default, _EFFECT[row.changes], row.since, meaning)
    return f"| {' | '.join(cells)} |"


def _cell(words: str) -> str:
    """Text as text: no ``|`` ends the cell and no ``<`` begins a tag."""
    return words.replace("|", "\\|").replace("<", "&lt;")


def _code(value: object) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")


def json_schema(schema: Schema, *, title: str) -> dict[str, Any]:
    """The whole as JSON Schema (draft 2020-12): an object without further properties.

    What it has no word for is an annotation: ``x-unit``, ``x-since``, ``x-changes``, ``x-group``, ``x-owner`` and
    ``x-node-check``; a secret is ``writeOnly``.
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


def _property(schema: Schema, group: str, param: Param) -> dict[str, Any]:
    value = param.type.json_schema()
    shape = {"anyOf": [value, {"type": "null"}]} if param.optional else value
    notes: dict[str, Any] = {"description": param.help}
    if not param.secret:
        if param.default is not None:
            notes["default"] = param.default
        if param.example is not None:
            notes["examples"] = [param.example]
    else:
        notes["writeOnly"] = True
    if param.unit:
        notes["x-unit"] = param.unit
    if param.type.node_check is not None:
        notes["x-node-check"] = param.type.node_check.value
    notes |= {"x-since": param.since, "x-changes": param.changes, "x-group": group, "x-owner": schema.owner(param.key)}
    return {**shape, **notes}
