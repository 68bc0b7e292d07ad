"""The changes between two JSON Schemas of a driver's parameters, and the version that each change requires. Pure.

The rule is semantic versioning for an instance file that works today: *major* if the new schema may refuse it or change its
meaning, *minor* if it keeps working and there is more to set, *patch* for texts. Sets of values are compared by the values
that they accept; if that is unknown (two patterns), the new set counts as narrower.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.params.values import UNSET

__all__ = ["Bump", "ParamChange", "as_schema", "compare_schemas", "largest"]

_Schema = Mapping[str, Any]

_NOTES: Final = ("description", "default", "examples", "writeOnly", "deprecated", "$comment", "title")
_EFFECTS: Final = ("start", "launch", "live")  # later is better: the change is there sooner
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_KNOWN: Final = frozenset({"type", "enum", "const", "anyOf", "items", *_LOWER, *_UPPER})


class Bump(StrEnum):
    """The part of a version that a change requires to raise: ``none``, ``patch``, ``minor``, ``major``."""

    NONE = "none"
    PATCH = "patch"
    MINOR = "minor"
    MAJOR = "major"

    @property
    def size(self) -> int:
        """0 for none to 3 for major."""
        return list(Bump).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamChange:
    """One change of one parameter: ``kind`` such as ``added`` or ``tightened``, the version it requires, and the words."""

    key: str
    kind: str
    bump: Bump
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.kind}: {self.what}"

    def to_json(self) -> dict[str, str]:
        """The change as plain JSON types."""
        return {"key": self.key, "kind": self.kind, "bump": str(self.bump), "what": self.what}


def largest(changes: tuple[ParamChange, ...]) -> Bump:
    """The version that all changes together require."""
    return max((change.bump for change in changes), key=lambda bump: bump.size, default=Bump.NONE)


def compare_schemas(old: _Schema, new: _Schema) -> tuple[ParamChange, ...]:
    """Every change from one JSON Schema, as `json_schema` makes it, to the other; those that require most first."""
    before, after = _parameters(old), _parameters(new)
    needed = set(old.get("required", ())), set(new.get("required", ()))
    changes = [
        ParamChange(key=key, kind="removed", bump=Bump.MAJOR, what="files that set it are refused")
        for key in before
        if key not in after
    ]
    changes += [_added(key, required=key in needed[1]) for key in after if key not in before]
    for key in before.keys() & after.keys():
        changes += [
            ParamChange(key=key, kind=kind, bump=bump, what=what)
            for kind, bump, what in (
                *_required(key in needed[0], key in needed[1]),
                *_values(before[key], after[key]),
                *_default(before[key], after[key]),
                *_marks(before[key], after[key]),
                *_words(before[key], after[key]),
            )
        ]
    return tuple(sorted(changes, key=lambda change: (-change.bump.size, change.key, change.kind)))


def as_schema(document: object) -> dict[str, Any]:
    """What ``hv params --schema`` or ``--json`` printed, as JSON Schema. Raises ValueError for anything else."""
    if isinstance(document, dict) and isinstance(document.get("properties"), dict):
        return document
    rows: list[Any] = document if isinstance(document, list) else [None]
    if not all(isinstance(row, dict) and isinstance(row.get("schema"), dict) and "key" in row for row in rows):
        raise ValueError("is not what hv params DRIVER --schema or --json prints")
    required = [row["key"] for row in rows if row.get("required")]
    return {"properties": {row["key"]: row["schema"] for row in rows}, "required": required}


def _parameters(schema: _Schema) -> dict[str, _Schema]:
    return {key: value for key, value in schema.get("properties", {}).items() if key != UNSET}


def _added(key: str, *, required: bool) -> ParamChange:
    what = "required: every file without it is refused" if required else "files without it keep their meaning"
    return ParamChange(key=key, kind="added", bump=Bump.MAJOR if required else Bump.MINOR, what=what)


_Found = Iterator[tuple[str, Bump, str]]


def _required(before: bool, after: bool) -> _Found:  # noqa: FBT001 - two facts side by side
    if after and not before:
        yield "tightened", Bump.MAJOR, "is required now"
    elif before and not after:
        yield "loosened", Bump.MINOR, "is no longer required"


def _values(before: _Schema, after: _Schema) -> _Found:
    old, new = _bare(before), _bare(after)
    if old == new:
        return
    both = f"accepted {_in_words(old)}, now accepts {_in_words(new)}"
    wider, narrower = _accepts(new, old), _accepts(old, new)
    if not wider and not _types(old) & _types(new):
        yield "type changed", Bump.MAJOR, both
    elif not wider:
        yield "tightened", Bump.MAJOR, both if narrower else f"{both}, and refuses some values that it accepted"
    elif not narrower:
        yield "loosened", Bump.MINOR, both


def _default(before: _Schema, after: _Schema) -> _Found:
    old, new = before.get("default"), after.get("default")
    if old != new:
        what = f"was {_shown(old)}, is {_shown(new)}: files that do not set it change their meaning"
        yield "default changed", Bump.MAJOR, what


def _marks(before: _Schema, after: _Schema) -> _Found:
    """Changes of the notes that have a meaning: deprecated, secret, unit, effect."""
    if after.get("deprecated") and not before.get("deprecated"):
        yield "deprecated", Bump.MINOR, f"{after.get('x-instead')}; will be removed in {after.get('x-removed-in')}"
    elif before.get("deprecated") and not after.get("deprecated"):
        yield "not deprecated", Bump.PATCH, "it will not be removed"
    if before.get("writeOnly") != after.get("writeOnly"):
        secret = bool(after.get("writeOnly"))
        what = "its value is hidden now" if secret else "its value is shown and written down now"
        yield "secret" if secret else "not secret", Bump.MINOR if secret else Bump.MAJOR, what
    if before.get("x-unit") != after.get("x-unit"):
        yield "unit changed", Bump.MAJOR, f"was {before.get('x-unit')}, is {after.get('x-unit')}"
    if before.get("x-node-check") != after.get("x-node-check"):
        what = f"was {before.get('x-node-check', 'nothing')}, is {after.get('x-node-check', 'nothing')}"
        bump = Bump.MAJOR if after.get("x-node-check") else Bump.MINOR
        yield "checked on the node", bump, what
    old, new = before.get("x-changes", "start"), after.get("x-changes", "start")
    if old != new:
        sooner = _EFFECTS.index(new) > _EFFECTS.index(old)
        yield "takes effect", Bump.MINOR if sooner else Bump.MAJOR, f"was at {old}, is at {new}"


def _words(before: _Schema, after: _Schema) -> _Found:
    changed = [note for note in ("description", "examples", "x-group") if before.get(note) != after.get(note)]
    old, new = _meanings(before), _meanings(after)
    if any(old[choice] != new[choice] for choice in old.keys() & new.keys()):
        changed.append("choices")
    if changed:
        yield "reworded", Bump.PATCH, ", ".join(changed).replace("x-", "")


def _meanings(schema: _Schema) -> dict[str, str]:
    """The meaning of each choice of a fixed set, or of a list of them; '' where it has none."""
    places = [schema, *schema.get("anyOf", ())]
    places += [place["items"] for place in places if "items" in place]
    found = {json.dumps(choice): "" for place in places for choice in place.get("enum", ())}
    return found | {
        json.dumps(choice["const"]): choice.get("description", "")
        for place in places
        for choice in place.get("oneOf", ())
    }


def _bare(schema: _Schema) -> dict[str, Any]:
    """Only the keywords that decide which values are accepted. Without null: the default and required decide that."""
    kept = {key: value for key, value in schema.items() if key not in _NOTES and not key.startswith("x-")}
    if "oneOf" in kept:
        kept["enum"] = [choice["const"] for choice in kept.pop("oneOf")]
    if "items" in kept:
        kept["items"] = _bare(kept["items"])
    options = [_bare(option) for option in kept.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del kept["anyOf"]
        return {**options[0], **kept}
    return {**kept, "anyOf": options} if options else kept


def _branches(schema: _Schema) -> list[_Schema]:
    if "anyOf" not in schema:
        return [schema]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return [{**branch, **rest} for option in schema["anyOf"] for branch in _branches(option)]


def _accepts(wide: _Schema, narrow: _Schema) -> bool:
    """Whether ``wide`` surely takes every value that ``narrow`` takes."""
    return all(any(_covers(option, branch) for option in _branches(wide)) for branch in _branches(narrow))


def _covers(wide: _Schema, narrow: _Schema) -> bool:
    if "enum" in narrow:
        return all(_takes(wide, value) for value in narrow["enum"])
    if "enum" in wide or not _types(narrow) <= _types(wide):
        return False
    if any(wide.get(key) != narrow.get(key) for key in wide.keys() - _KNOWN):
        return False  # a pattern or the like that the narrow one may not have
    if any(key in wide and narrow.get(key, float("-inf")) < wide[key] for key in _LOWER):
        return False
    if any(key in wide and narrow.get(key, float("inf")) > wide[key] for key in _UPPER):
        return False
    return "items" not in wide or _accepts(wide["items"], narrow.get("items", {}))


def _takes(wide: _Schema, value: Any) -> bool:
    """Whether one value of an ``enum`` is surely accepted."""
    if "enum" in wide:
        return any(type(value) is type(choice) and value == choice for choice in wide["enum"])
    size = len(value) if isinstance(value, str) else value
    return (
        not wide.keys() - _KNOWN
        and _types({"enum": [value]}) <= _types(wide)
        and all(size >= wide[key] for key in _LOWER if key in wide)
        and all(size <= wide[key] for key in _UPPER if key in wide)
    )


_PYTHON: Final = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def _types(schema: _Schema) -> set[str]:
    """The JSON types of what is accepted; a whole number is also a number."""
    found: set[str] = set()
    for branch in _branches(schema):
        if "enum" in branch:
            found |= {_PYTHON.get(type(value), "other") for value in branch["enum"]}
        else:
            given = branch.get("type", "anything")
            found |= {given} if isinstance(given, str) else set(given)
    return found | ({"integer"} if "number" in found else set())


def _in_words(schema: _Schema) -> str:
    branches = _branches(schema)
    if len(branches) > 1:
        return " or ".join(map(_in_words, branches))
    if "enum" in schema:
        return f"one of {', '.join(_shown(value) for value in schema['enum'])}"
    limits = [f"{key} {schema[key]}" for key in (*_LOWER, *_UPPER, "pattern") if key in schema]
    if "items" in schema:
        limits.append(f"each {_in_words(schema['items'])}")
    return " ".join([str(schema.get("type", "anything")), *([f"({', '.join(limits)})"] if limits else [])])


def _shown(value: object) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)
