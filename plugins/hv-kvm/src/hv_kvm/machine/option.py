"""One QEMU option, typed until the last moment. The only place that escapes.

QEMU reads ``key=value,key=value`` and takes a doubled comma for a comma in a value. Nothing else
needs escaping there, and options whose argument is a plain path are not parsed at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Opt", "Props", "Value"]

Value = bool | int | str
Props = dict[str, Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opt:
    """One option: ``-name`` alone, with a ``head`` (the implied first key or a plain argument), with ``props``, or both.

    ``plain`` says that QEMU takes the argument as it is. ``params`` and ``why`` tell where the option came from, and
    ``capability`` what this QEMU can do, or cannot, that decided its form.
    """

    name: str
    head: Value | None = None
    props: Mapping[str, Value | None] = field(default_factory=dict)
    plain: bool = False
    params: tuple[str, ...] = ()
    why: str = ""
    capability: str = ""

    @property
    def argv(self) -> tuple[str, ...]:
        """The option as argv tokens. Properties that are None are left out."""
        if self.plain:
            return (self.name, _text(self.head or ""))
        parts = [] if self.head is None else [_escaped(self.head)]
        parts += [f"{key}={_escaped(value)}" for key, value in self.props.items() if value is not None]
        return (self.name, ",".join(parts)) if parts else (self.name,)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that the option defines; two options with one id are a clash."""
        return tuple(f"{self.name} {self.props[key]}" for key in ("id", "node-name") if self.props.get(key) is not None)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


def _escaped(value: Value) -> str:
    return _text(value).replace(",", ",,")
