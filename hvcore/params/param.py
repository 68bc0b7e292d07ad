"""What a driver declares: `Param`, one typed and documented knob, and `ParamGroup`, those of one device family."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

from hvcore.errors import DriverLoadError
from hvcore.params.param_type import ParamType, Reject

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Changes", "Param", "ParamGroup"]

Changes = Literal["start", "launch", "live"]
"""When a changed value takes effect: at the next stop and start (it is part of the frozen machine), at the next launch
of the process (a reboot launches one too), or at once in a running instance. No operation changes a running instance
yet: until then a ``live`` value is taken at a launch."""

_KEY = re.compile("[a-z][a-z0-9_]{0,63}")
_SINCE = re.compile(r"[0-9]+(\.[0-9]+){1,2}")


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter. ``default`` None means unset, and then None may also be given; it is kept in its clean form.

    ``help`` is a sentence that says what the parameter does to the guest, ``default_means`` a phrase for a default that
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
        """Refuse a declaration that contradicts itself, when the plugin is loaded and not when the value is used."""
        if _KEY.fullmatch(self.key) is None:
            raise DriverLoadError(
                f"parameter {self.key!r}: not a parameter name; give lower case letters, digits and '_'"
            )
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
        object.__setattr__(self, "default", self._own("default"))
        object.__setattr__(self, "example", self._own("example"))

    def _own(self, which: str) -> Any:
        value = getattr(self, which)
        if value is None:
            return None
        try:
            return self.type.parse(value)
        except Reject as reject:
            got = "" if self.secret else f", got {value!r}"
            message = f"{which} {reject.what}{got}; give {self.expects}"
        raise self._bad(message)

    def _bad(self, what: str) -> DriverLoadError:
        return DriverLoadError(f"parameter {self.key!r}: {what}")

    @property
    def expects(self) -> str:
        """What to give, with limits and unit, as a phrase: ``a whole number from 0 to 100, in percent``."""
        return f"{self.type.expects}, in {self.unit}" if self.unit else self.type.expects

    @property
    def deprecation(self) -> str | None:
        """``is deprecated and will be removed in release 2.0; use NAME``, or None if not deprecated."""
        if self.deprecated is None:
            return None
        return f"is deprecated and will be removed in release {self.removed_in}; {self.deprecated}"

    @property
    def optional(self) -> bool:
        """Whether it can be unset, so that None is a value of it."""
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
