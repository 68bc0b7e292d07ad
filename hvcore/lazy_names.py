"""Public names of a module, imported at their first use, from the stub file beside it.

Type checkers read the stub too, so the names are listed once. Each line is ``from module import name as name``, or
``name = _other`` for a name that was imported as ``_other``.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(module: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` for the module with that name and file (``__name__``, ``__file__``)."""

    @functools.cache
    def homes() -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        with open(f"{os.path.splitext(file)[0]}.pyi", encoding="utf-8") as stub:
            for words in map(str.split, stub):
                if words[:1] == ["from"]:
                    found[words[5]] = (words[1], words[3])
                elif words[1:2] == ["="]:
                    found[words[0]] = found.pop(words[2])
        return found

    def get(name: str) -> Any:
        if name not in homes():
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, inside = homes()[name]
        found = getattr(importlib.import_module(home), inside, None)
        found = importlib.import_module(f"{home}.{inside}") if found is None else found
        setattr(sys.modules[module], name, found)
        return found

    return get, lambda: sorted(homes())
