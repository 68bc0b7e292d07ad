"""Parameter types of this driver: a choice with reasons for what it refuses, a list of choices, a file to be made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hvcore import ParamType, Reject, file, one_of, text

__all__ = ["listed", "new_file", "refusing"]


def refusing(*choices: str, never: Mapping[str, str]) -> ParamType:
    """As `one_of`, and what others accept and never starts is refused by name: ``never`` maps a value to the reason."""
    known = one_of(*choices)

    def parse(value: object) -> Any:
        if isinstance(value, str) and value in never:
            raise Reject(never[value], f"give {known.expects}")
        return known.parse(value)

    return replace(known, parse=parse)


def listed(item: Callable[[str], str], expects: str, pattern: str, *, max_items: int) -> ParamType:
    """Several items in one text, separated by commas or spaces. ``item`` gives the clean form of one or raises ValueError.

    The clean value has them joined by commas. ``pattern`` is what an item looks like, for the JSON Schema.
    """
    line = text(max_bytes=1024)

    def parse(value: object) -> str:
        words = [word for word in re.split("[, ]+", line.parse(value)) if word]
        if not words:
            raise Reject("has nothing in it", f"give {expects}")
        if len(words) > max_items:
            raise Reject(f"has more than {max_items} items")
        try:
            return ",".join(map(item, words))
        except ValueError as error:
            raise Reject(str(error), f"give {expects}") from error

    schema = {
        "type": "string",
        "maxLength": 1024,
        "pattern": f"^[, ]*(?:{pattern})(?:[, ]+(?:{pattern}))*[, ]*(?![\\s\\S])",
    }
    return ParamType("list", expects, parse, schema)


def new_file() -> ParamType:
    """The absolute, normalised path of a file that need not be there yet."""
    return replace(
        file(), kind="new file", expects="the absolute path of a file, which is made if need be", node_check=None
    )
