"""What a parameter type is: `ParamType`, the `Reject` it raises, and the words for values of the wrong type."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import voluptuous as vol

from hvcore.params.words import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATTERN_END", "NodeCheck", "ParamType", "Reject", "wrong_type"]

PATTERN_END = r"(?![\s\S])"
"""The true end, for a JSON Schema pattern: in ECMA and in Python, whose ``$`` also stands before a last newline."""


class Reject(vol.Invalid):
    """A type's refusal of a value: what is wrong with it, and what to do where that is more than "give ...".

    ``what`` follows the parameter's name: ``is above the maximum of 32``. Of a secret parameter neither is shown.
    """

    def __init__(self, what: str, todo: str | None = None) -> None:
        super().__init__(what)
        self.what, self.todo = what, todo


class NodeCheck(StrEnum):
    """What is checked of a value on the node that will run it, when the value begins with ``/``."""

    FILE = "file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True, eq=False)
class ParamType:
    """What values a parameter takes.

    ``parse`` returns the clean, immutable value or raises `Reject`, and takes its own results unchanged;
    ``expects`` completes "give ..."; ``schema`` is JSON Schema (draft 2020-12). ``choices`` of a fixed set, or of a list
    of them, are its values, each with a sentence on its meaning or ''. A program may build its own type.
    """

    kind: str
    expects: str
    parse: Callable[[object], Any] = field(repr=False)
    schema: Mapping[str, Any] = field(repr=False)
    node_check: NodeCheck | None = None
    choices: Mapping[int | str, str] = field(default_factory=dict, repr=False)

    def json_schema(self) -> dict[str, Any]:
        """The type as JSON Schema (draft 2020-12): a fresh dict.

        It accepts whatever ``parse`` does. It also accepts what JSON Schema has no word for: 1.0 for an integer,
        a text that is short enough in characters and not in bytes, a size that is out of range once read.
        """
        return copy.deepcopy(dict(self.schema))


def wrong_type(value: object, wanted: str, todo: str | None = None) -> Reject:
    """The refusal of a value that has the wrong type: ``is a list, not a text``."""
    return Reject(f"is {kind_of(value)}, not {wanted}", todo)
