"""Whether JSON has the types that a QEMU accepts, according to ``query-qmp-schema`` and ``device-list-properties``.

QEMU 10 refuses what older ones took for another type in ``device_add``: a number or a switch that is a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from introspection import Introspection

JSON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "int": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
PLACE: Final = re.compile("0x[0-9a-f]{1,2}")
"""``addr`` of a PCI device: a number there is another place in QEMU 10 than in 7.2."""

Schema = Mapping[str, dict[str, Any]]
NUMBERS: Final = re.compile("u?int[0-9]+|size")


def wrong(says: Introspection, command: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    """The arguments of the command that this QEMU would refuse, each as ``path: what``."""
    if command == "device_add":
        yield from _device(says, arguments)
    else:
        yield from _value(says.schema, says.schema[command]["arg-type"], arguments, command)


def _device(says: Introspection, arguments: Mapping[str, Any]) -> Iterator[str]:
    driver = arguments["driver"]
    rows = says.ask("device-list-properties", typename=driver)
    types = {row["name"]: row["type"] for row in rows} | {"driver": "str", "id": "str", "bus": "str"}
    for key, value in arguments.items():
        if key not in types:
            yield f"{driver}.{key}: no such property"
        elif key == "addr":
            yield from () if PLACE.fullmatch(str(value)) else (f"{driver}.{key}: is not a place, got {value!r}",)
        elif type(value) is not _type(types[key]):
            yield f"{driver}.{key}: is a {types[key]}, got {value!r}"


def _type(name: str) -> type:
    return bool if name == "bool" else int if NUMBERS.fullmatch(name) else str


def _value(schema: Schema, name: str, value: Any, path: str) -> Iterator[str]:
    entity = schema[name]
    yield from _LOOKS[entity["meta-type"]](schema, entity, value, path)


def _builtin(schema: Schema, entity: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    types = JSON_TYPES.get(entity["json-type"])  # "value" has no type here, because it can be anything
    if types and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        yield f"{path}: is a {entity['json-type']}, got {value!r}"


def _enum(schema: Schema, entity: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if value not in entity["values"]:
        yield f"{path}: is one of {entity['values']}, got {value!r}"


def _array(schema: Schema, entity: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{path}: is a list, got {value!r}"
        return
    for index, item in enumerate(value):
        yield from _value(schema, entity["element-type"], item, f"{path}.{index}")


def _alternate(schema: Schema, entity: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    found = [list(_value(schema, it["type"], value, path)) for it in entity["members"]]
    yield from min(found, key=len)


def _object(schema: Schema, entity: Mapping[str, Any], value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: is an object, got {value!r}"
        return
    members = _members(schema, entity, value)
    for name, member in members.items():
        if name in value:
            yield from _value(schema, member["type"], value[name], f"{path}.{name}")
        elif "default" not in member:
            yield f"{path}: lacks {name}"
    for name in value.keys() - members.keys():
        yield f"{path}.{name}: no such member"


def _members(schema: Schema, entity: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    members = {it["name"]: it for it in entity["members"]}
    for variant in entity.get("variants", ()):
        if variant["case"] == value.get(entity["tag"]):
            members |= _members(schema, schema[variant["type"]], value)
    return members


_LOOKS: Final = {
    "builtin": _builtin,
    "enum": _enum,
    "array": _array,
    "alternate": _alternate,
    "object": _object,
}
