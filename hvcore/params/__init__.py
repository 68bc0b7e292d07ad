"""Typed parameters: what a driver declares, and the check of what an instance sets. Pure.

A driver declares `ParamGroup`s of `Param`s with the types below; `Schema` compiles those of the driver and its
extensions, checks a mapping, and tells every problem at once; `json_schema`, `markdown` and `rows` describe it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hvcore.moved import by_home, moved_names

__all__ = [
    "DEFAULT",
    "INSTANCE",
    "MAX_CPU_ID",
    "PATTERN_END",
    "REDACTED",
    "UNSET",
    "Bump",
    "Changes",
    "NodeCheck",
    "Param",
    "ParamChange",
    "ParamGroup",
    "ParamRow",
    "ParamType",
    "Params",
    "Reject",
    "Schema",
    "address",
    "address_or_path",
    "as_schema",
    "boolean",
    "compare_schemas",
    "cpu_mask",
    "cpu_sets",
    "directory",
    "file",
    "file_or_url",
    "integer",
    "json_schema",
    "kind_of",
    "largest",
    "line",
    "list_of",
    "markdown",
    "name",
    "one_of",
    "port",
    "regexp",
    "rows",
    "seconds",
    "shortened",
    "size_mib",
    "text",
    "wrong_type",
]

# As in hvcore itself: whoever reads a record needs neither the compiler of schemas nor the comparison of two.
if TYPE_CHECKING:
    from hvcore.params.compare import Bump, ParamChange, as_schema, compare_schemas, largest
    from hvcore.params.host_types import (
        MAX_CPU_ID,
        address,
        address_or_path,
        cpu_mask,
        cpu_sets,
        directory,
        file,
        file_or_url,
    )
    from hvcore.params.param import Changes, Param, ParamGroup
    from hvcore.params.param_type import PATTERN_END, NodeCheck, ParamType, Reject, wrong_type
    from hvcore.params.reference import ParamRow, json_schema, markdown, rows
    from hvcore.params.schema import Schema
    from hvcore.params.types import boolean, integer, line, list_of, name, one_of, port, regexp, seconds, size_mib, text
    from hvcore.params.values import DEFAULT, INSTANCE, REDACTED, UNSET, Params
    from hvcore.params.words import kind_of, shortened
else:
    _LATE = {
        "hvcore.params.compare": "Bump ParamChange as_schema compare_schemas largest",
        "hvcore.params.host_types": "MAX_CPU_ID address address_or_path cpu_mask cpu_sets directory file file_or_url",
        "hvcore.params.param": "Changes Param ParamGroup",
        "hvcore.params.param_type": "PATTERN_END NodeCheck ParamType Reject wrong_type",
        "hvcore.params.reference": "ParamRow json_schema markdown rows",
        "hvcore.params.schema": "Schema",
        "hvcore.params.types": "boolean integer line list_of name one_of port regexp seconds size_mib text",
        "hvcore.params.values": "DEFAULT INSTANCE REDACTED UNSET Params",
        "hvcore.params.words": "kind_of shortened",
    }
    __getattr__ = moved_names(__name__, {}, late=by_home(_LATE))
