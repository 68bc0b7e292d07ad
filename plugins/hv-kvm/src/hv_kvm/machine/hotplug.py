"""An option in the form that QMP takes while the guest runs: the same properties, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from hv_kvm.machine.option import Opt, Value

__all__ = ["QmpCommand", "as_command", "nested"]

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
