"""A disk or network interface of an instance with other settings, by their keys in an instance file. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from hvcore.errors import ParamsError, Problem
from hvcore.model.devices import Disk, Nic
from hvcore.model.instance_keys import DISK_KEYS, NIC_KEYS
from hvcore.params.param import Param, ParamGroup, Reject
from hvcore.params.words import nearest, shortened

__all__ = ["changed_keys", "changed_row"]

_KEYS: Final[Mapping[type, ParamGroup]] = {Disk: DISK_KEYS, Nic: NIC_KEYS}
_WORDS: Final = {"true": True, "false": False}


def changed_row(subject: str, row: Disk | Nic, values: Mapping[str, Any]) -> Disk | Nic:
    """The row with these values; None or an empty text is the default. Raises `ParamsError` with every problem.

    A text is read as the type of its key: ``"true"``, ``"1400"``, or ``"192.0.2.7,192.0.2.8"`` for a list.
    """
    keys = {param.key: param for param in _KEYS[type(row)]}
    defaults = {one.name: one.default for one in fields(row)}
    problems: list[Problem] = []
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in keys:
            near = nearest(str(key), keys)
            todo = f"did you mean {near!r}?" if near is not None else f"known here: {', '.join(keys)}"
            problems.append(Problem(path=shortened(key).strip("'\""), what="unknown key", todo=todo))
        elif value in (None, "", [], ()):
            if keys[key].required:
                problems.append(Problem(path=key, what="is required", todo="give a value"))
            else:
                clean[key] = defaults[key]
        else:
            try:
                clean[key] = _parsed(keys[key], value)
            except Reject as reject:
                todo = reject.todo or f"give {keys[key].expects}"
                problems.append(Problem(path=key, what=reject.what, got=shortened(value), todo=todo))
    if problems:
        raise ParamsError(subject, problems)
    return replace(row, **clean)


def changed_keys(before: Disk | Nic, after: Disk | Nic) -> tuple[str, ...]:
    """The keys in which two rows differ, in their order."""
    return tuple(one.name for one in fields(before) if getattr(before, one.name) != getattr(after, one.name))


def _parsed(param: Param, value: object) -> Any:
    """The clean value. Raises `Reject` with what is wrong with ``value`` itself."""
    try:
        return param.type.parse(value)
    except Reject:
        for other in _readings(value):
            try:
                return param.type.parse(other)
            except Reject:
                continue
        raise


def _readings(value: object) -> Iterator[object]:
    """What a text can mean in a file, where values have types."""
    if not isinstance(value, str):
        return
    if value in _WORDS:
        yield _WORDS[value]
    if value.isascii() and value.isdecimal():
        yield int(value)
    yield [part.strip() for part in value.split(",")]
