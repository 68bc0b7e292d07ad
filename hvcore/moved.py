"""Public names that are to go: each still works, and warns with what to use instead and until when."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Moved", "moved_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Where a name went: ``target`` is ``module:name``; ``removed_in`` the first release of hvcore without the old one."""

    target: str
    removed_in: str


def moved_names(module: str, names: Mapping[str, Moved], *, late: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for ``module``: the old ``names`` with a DeprecationWarning at the caller, no others.

    ``late`` are names that are imported when somebody first asks for them, each with its home, ``module`` when it is
    one and ``module:name`` otherwise.
    """

    def get(name: str) -> Any:
        if name in late:
            place, _, inside = late[name].partition(":")
            found = importlib.import_module(place)
            return getattr(found, inside) if inside else found
        moved = names.get(name)
        if moved is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, now = moved.target.partition(":")
        what = f"{module}.{name}: is deprecated and goes in {module} {moved.removed_in}; use {home}.{now}"
        warnings.warn(what, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(home), now)

    return get
