"""Public names that are imported late, or are to go: those still work, and warn with what to use instead and until when."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["Moved", "by_home", "moved_names"]


class Moved(NamedTuple):
    """Where a name went: ``target`` is ``module:name``; ``removed_in`` the first release of hvcore without the old one."""

    target: str
    removed_in: str


def by_home(homes: Mapping[str, str]) -> dict[str, str]:
    """``{"hvcore.state.job": "Job Live"}`` as `moved_names` takes late names: ``{"Job": "hvcore.state.job:Job", ...}``."""
    return {name: f"{home}:{name}" for home, names in homes.items() for name in names.split()}


def moved_names(module: str, names: Mapping[str, Moved], *, late: Mapping[str, str]) -> Callable[[str], Any]:
    """A ``__getattr__`` for ``module``: the old ``names`` with a DeprecationWarning at the caller, no others.

    ``late`` are names that are imported when somebody first asks for them, each with its home, ``module`` when it is
    one and ``module:name`` otherwise.
    """

    def get(name: str) -> Any:
        if name in late:
            place, _, inside = late[name].partition(":")
            found = importlib.import_module(place)
            found = getattr(found, inside) if inside else found
            setattr(sys.modules[module], name, found)
            return found
        moved = names.get(name)
        if moved is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, _, now = moved.target.partition(":")
        what = f"{module}.{name}: is deprecated and goes in {module} {moved.removed_in}; use {home}.{now}"
        warnings.warn(what, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(home), now)

    return get
