"""The JSON Schema of a whole instance: what an instance file, or the data for `Node.check`, can have."""

from __future__ import annotations

from typing import Any

from hvcore.model.instance_keys import DEFINITION_KEYS, DISK_KEYS, INSTANCE_KEYS, NIC_KEYS
from hvcore.model.names import MAX_NAME_BYTES, NAME_PATTERN
from hvcore.params.param import PATTERN_END
from hvcore.params.reference import json_schema, table_schema
from hvcore.params.schema import Schema

__all__ = ["instance_schema"]


def instance_schema(schema: Schema, driver: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of an instance of that driver, with the parameters of ``schema``.

    It never refuses what `Node.check` accepts. ``$comment`` says where it accepts more.
    """
    whole = json_schema(schema, title=f"instance of driver {driver}")
    params = {key: whole[key] for key in ("type", "properties", "additionalProperties", "required") if key in whole}
    name = {
        "type": "string",
        "maxLength": MAX_NAME_BYTES,
        "pattern": f"^{NAME_PATTERN}{PATTERN_END}",
        "description": "The name of the instance on its node.",
        "examples": ["web1"],
    }
    tables: dict[str, Any] = {
        "disks": {"type": "array", "items": table_schema(DISK_KEYS), "description": "Its disks, in their order."},
        "nics": {"type": "array", "items": table_schema(NIC_KEYS), "description": "Its network interfaces."},
        "params": {**params, "description": f"The parameters of driver {driver}."},
    }
    needed = ("name", "params") if params.get("required") else ("name",)
    of_definition = table_schema(DEFINITION_KEYS)["properties"]
    table = table_schema(INSTANCE_KEYS, {"name": name, **of_definition, **tables}, needed)
    table["properties"]["driver"] = {"const": driver, "description": table["properties"]["driver"]["description"]}
    uuid = table["properties"]["uuid"]
    uuid["anyOf"] = [*uuid["anyOf"], {"const": ""}]  # as an Instance that has none yet
    head: dict[str, Any] = {key: whole[key] for key in ("$schema", "$comment", "title")}
    return {**head, **table}
