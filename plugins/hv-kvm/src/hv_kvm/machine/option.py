"""One QEMU option as typed values, and its two forms: argv and a QMP command. The only place that escapes. Pure.

In ``key=value,key=value``, QEMU reads a doubled comma as a comma in a value. Nothing else needs escaping, and an option
whose argument is a plain path is not parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Final

from hvcore.plugin import dataclass

__all__ = ["Opt", "Props", "QmpCommand", "Value", "as_command", "nested"]

Value = bool | int | str | range
Props = dict[str, Value | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opt:
    """One option: ``-name`` alone, with a ``head`` (the implied first key or a plain argument), with ``props``, or both.

    ``plain``: QEMU does not parse the argument. ``params`` are the parameters that the option follows from, ``why`` is
    the reason for it, and ``capability`` the feature of this QEMU, or the lack of it, that decided its form. A range is a
    list of numbers, ``0-3`` in the argument.
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
        """The ids that the option defines. Two options must not define the same id."""
        return tuple(f"{self.name} {self.props[key]}" for key in ("id", "node-name") if self.props.get(key) is not None)


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, range):
        return str(value[0]) if len(value) == 1 else f"{value[0]}-{value[-1]}"
    return str(value)


def _escaped(value: Value) -> str:
    return _text(value).replace(",", ",,")


_HEADS: Final = {
    "-device": ("device_add", "driver"),
    "-blockdev": ("blockdev-add", "driver"),
    "-object": ("object-add", "qom-type"),
    "-netdev": ("netdev_add", "type"),
}


@dataclass(frozen=True, slots=True)
class QmpCommand:
    """A QMP command and its arguments, as plain JSON types."""

    name: str
    arguments: dict[str, Any]


def as_command(option: Opt) -> QmpCommand | None:
    """The QMP command that does in a running guest what the option does at the start; None if QEMU has no such command.

    Numbers and booleans keep their JSON type: since QEMU 9.2, ``device_add`` refuses text in their place.
    """
    if option.head is None and not option.props:
        return None  # an argument of kvm_extra
    if option.name == "-chardev":
        return _chardev(option)
    found = _HEADS.get(option.name)
    if found is None:
        return None
    name, head = found
    given = {} if option.head is None else {head: option.head}
    return QmpCommand(name, nested({**given, **option.props}))


def nested(props: Mapping[str, Value | None]) -> dict[str, Any]:
    """Properties as JSON: a dot in a key makes an object, a number after the dot an item of a list. None is left out.

    >>> nested({"file.driver": "rbd", "file.server.0.host": "a", "file.server.1.host": "b", "read-only": None})
    {'file': {'driver': 'rbd', 'server': [{'host': 'a'}, {'host': 'b'}]}}
    """
    tree: dict[str, Any] = {}
    for key, value in props.items():
        if value is None:
            continue
        *parents, last = key.split(".")
        here = tree
        for part in parents:
            here = here.setdefault(part, {})
        here[last] = value
    return {key: _lists(value) for key, value in tree.items()}


def _lists(value: Any) -> Any:
    if isinstance(value, range):
        return list(value)
    if not isinstance(value, dict):
        return value
    items = {key: _lists(item) for key, item in value.items()}
    if items and all(key.isdecimal() for key in items):
        return [items[key] for key in sorted(items, key=int)]
    return items


def _chardev(option: Opt) -> QmpCommand | None:
    """``chardev-add``, whose arguments differ from the option's (qapi/char.json); None for a type that no family uses."""
    props = {key: value for key, value in option.props.items() if value is not None}
    name = props.pop("id")
    make = _BACKENDS.get(str(option.head))
    if make is None:
        return None
    return QmpCommand("chardev-add", {"id": name, "backend": {"type": option.head, "data": make(props)}})


def _socket(props: dict[str, Value]) -> dict[str, Any]:
    """A socket that is passed as a descriptor, by the name that ``getfd`` gave it."""
    rest = {key: value for key, value in props.items() if key != "fd"}
    return {"addr": {"type": "fd", "data": {"str": str(props["fd"])}}, **rest}


_BACKENDS: Final[Mapping[str, Callable[[dict[str, Value]], dict[str, Any]]]] = {
    "socket": _socket,
    "pipe": lambda props: {"device": props["path"]},
    "spicevmc": lambda props: {"type": props["name"]},
}
