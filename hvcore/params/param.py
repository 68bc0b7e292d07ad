"""What a driver declares: `ParamType`, the values that a parameter takes, `Param`, and `ParamGroup`."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, field
from enum import StrEnum
from typing import Any, Literal

from hvcore.errors import DriverLoadError
from hvcore.frozen import dataclass
from hvcore.params.words import kind_of

__all__ = ["PATTERN_END", "Changes", "NodeCheck", "Param", "ParamGroup", "ParamType", "Reject", "wrong_type"]

PATTERN_END = r"(?![\s\S])"
"""The end of the text in a JSON Schema pattern, for ECMA and for Python, whose ``$`` also matches before a newline."""


class Reject(Exception):  # noqa: N818 - what a type says, not an error of the program
    """A type refuses a value: ``what`` is wrong (``is above the maximum of 32``), and what to do if not "give ...".

    Neither is shown for a secret parameter.
    """

    def __init__(self, what: str, todo: str | None = None) -> None:
        super().__init__(what)
        self.what, self.todo = what, todo


class NodeCheck(StrEnum):
    """The check on the node that runs the instance, for a value that begins with ``/``."""

    FILE = "file"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True, eq=False)
class ParamType:
    """The values that a parameter takes.

    ``parse`` returns the clean, immutable value or raises `Reject`, and returns its own results unchanged;
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

        It accepts every value that ``parse`` does, and some more that JSON Schema cannot express: 1.0 for an integer, a
        text that is short enough in characters but not in bytes, a size that is out of range once parsed.
        """
        return copy.deepcopy(dict(self.schema))


def wrong_type(value: object, wanted: str, todo: str | None = None) -> Reject:
    """The refusal of a value that has the wrong type: ``is a list, not a text``."""
    return Reject(f"is {kind_of(value)}, not {wanted}", todo)


Changes = Literal["start", "launch", "live"]
"""When a changed value takes effect: after a stop and a start, at the next launch of the process (a reboot is one), or at
once in a running instance. No operation changes a running instance yet, so a ``live`` value is taken at a launch."""

_KEY = re.compile("[a-z][a-z0-9_]{0,63}")
_SINCE = re.compile(r"[0-9]+(\.[0-9]+){1,2}")


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. ``default`` None means unset, and then None may also be given; it is kept in its clean form.

    ``help`` is a sentence that says what the value is, ``default_means`` a phrase for a default that
    does not explain itself (``QEMU decides``), ``example`` a value worth showing. ``unit`` is in words (``bytes per
    second``), ``since`` the release of the plugin that brought it. A deprecated one says in ``deprecated`` what to do
    instead (``use vnc_address``) and in ``removed_in`` which release of the plugin is the first without it.
    DriverLoadError when the declaration contradicts itself.
    """

    key: str
    type: ParamType
    _: KW_ONLY
    help: str
    default: Any = None
    unit: str | None = None
    since: str = "0.1"
    secret: bool = False
    changes: Changes = "start"
    example: Any = None
    required: bool = False
    deprecated: str | None = None
    removed_in: str | None = None
    default_means: str | None = None

    def __post_init__(self) -> None:
        """Refuse a declaration that contradicts itself when the plugin is loaded."""
        if _KEY.fullmatch(self.key) is None:
            raise self._bad("not a parameter name; give lower case letters, digits and '_'")
        if not isinstance(self.type, ParamType):
            raise self._bad(f"type is {self.type!r:.80}; give one of hvcore's, hvcore.plugin.integer() for example")
        if not self.help.endswith(".") or self.help != " ".join(self.help.split()):
            raise self._bad("help is not a sentence on one line that ends with a full stop")
        if _SINCE.fullmatch(self.since) is None:
            raise self._bad(f"since is not a release such as '0.1', got {self.since!r}")
        if self.changes not in ("start", "launch", "live"):
            raise self._bad(f"changes is not 'start', 'launch' or 'live', got {self.changes!r}")
        if self.required and (self.default is not None or self.default_means):
            raise self._bad("is required and has a default")
        means = self.default_means
        if means is not None and (not means or means.endswith(".") or means != " ".join(means.split())):
            raise self._bad(f"default_means is not a phrase on one line without full stop, got {means!r}")
        if (self.deprecated is None) != (self.removed_in is None):
            raise self._bad("deprecated and removed_in go together; say what to do instead, and until when it works")
        if self.removed_in is not None and _SINCE.fullmatch(self.removed_in) is None:
            raise self._bad(f"removed_in is not a release such as '2.0', got {self.removed_in!r}")
        object.__setattr__(self, "default", self._clean("default"))
        object.__setattr__(self, "example", self._clean("example"))

    def _clean(self, which: str) -> Any:
        value = getattr(self, which)
        try:
            return None if value is None else self.type.parse(value)
        except Reject as reject:
            got = "" if self.secret else f", got {value!r}"
            message = f"{which} {reject.what}{got}; give {self.expects}"
        raise self._bad(message)

    def _bad(self, what: str) -> DriverLoadError:
        return DriverLoadError(f"parameter {self.key!r}: {what}")

    @property
    def expects(self) -> str:
        """The values that it takes, with limits and unit: ``a whole number from 0 to 100, in percent``."""
        return f"{self.type.expects}, in {self.unit}" if self.unit else self.type.expects

    @property
    def deprecation(self) -> str | None:
        """``is deprecated and will be removed in release 2.0; use NAME``, or None if not deprecated."""
        if self.deprecated is None:
            return None
        return f"is deprecated and will be removed in release {self.removed_in}; {self.deprecated}"

    @property
    def optional(self) -> bool:
        """Whether it can be unset, so that None is a value."""
        return self.default is None and not self.required


@dataclass(frozen=True, slots=True, init=False)
class ParamGroup:
    """The parameters of one device family, in the order in which they are shown.

    ``ParamGroup("rng", Param(...), Param(...), help="...")``.
    """

    name: str
    params: tuple[Param, ...]
    help: str = ""

    def __init__(self, name: str, *params: Param, help: str = "") -> None:  # noqa: A002 - as in Param
        """Name the family and list its parameters."""
        for param in params:
            if not isinstance(param, Param):
                raise DriverLoadError(
                    f"parameter group {name!r}: holds {param!r:.80}; give each as an hvcore.plugin.Param"
                )
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "help", help)

    def __iter__(self) -> Iterator[Param]:
        return iter(self.params)
