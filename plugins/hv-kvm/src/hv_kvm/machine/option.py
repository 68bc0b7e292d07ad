"""One QEMU option, typed until the last moment: as argv, where this is the only place that escapes, and as QMP. Pure.

QEMU reads ``key=value,key=value`` and takes a doubled comma for a comma in a value. Nothing else
needs escaping there, and options whose argument is a plain path are not parsed at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Opt", "Props", "QmpCommand", "Value", "as_command", "nested"]

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
    """The command that does at run time what the option does at the start; None when QEMU has none for it.

    A number stays a number and a switch stays a switch: since QEMU 9, ``device_add`` takes no text for either.
    """
    if option.head is None and not option.props:
        return None  # a word that was given as it is
    if option.name == "-chardev":
        return _chardev(option)
    found = _HEADS.get(option.name)
    if found is None:
        return None
    name, head = found
    given = {} if option.head is None else {head: option.head}
    return QmpCommand(name, nested({**given, **option.props}))


def nested(props: Mapping[str, Value | None]) -> dict[str, Any]:
    """Properties as JSON: a dot in a key nests an object, and a number after it an item of a list. None is left out.

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
    if not isinstance(value, dict):
        return value
    items = {key: _lists(item) for key, item in value.items()}
    if items and all(key.isdecimal() for key in items):
        return [items[key] for key in sorted(items, key=int)]
    return items


def _chardev(option: Opt) -> QmpCommand | None:
    """``chardev-add``, whose arguments are not the option's (qapi/char.json). None for a kind that no family hot-plugs."""
    props = {key: value for key, value in option.props.items() if value is not None}
    name = props.pop("id")
    make = _BACKENDS.get(str(option.head))
    if make is None:
        return None
    return QmpCommand("chardev-add", {"id": name, "backend": {"type": option.head, "data": make(props)}})


def _socket(props: dict[str, Value]) -> dict[str, Any]:
    """A socket that is passed as a descriptor; QEMU knows it by the name that it was given with ``getfd``."""
    rest = {key: value for key, value in props.items() if key != "fd"}
    return {"addr": {"type": "fd", "data": {"str": str(props["fd"])}}, **rest}


def _pipe(props: dict[str, Value]) -> dict[str, Any]:
    return {"device": props["path"]}


def _spicevmc(props: dict[str, Value]) -> dict[str, Any]:
    return {"type": props["name"]}


_BACKENDS: Final[Mapping[str, Callable[[dict[str, Value]], dict[str, Any]]]] = {
    "socket": _socket,
    "pipe": _pipe,
    "spicevmc": _spicevmc,
}
