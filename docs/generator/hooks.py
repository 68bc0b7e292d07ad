"""The page of hooks."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import hv_kvm.hookspecs
import hvcore.plugins.hookspecs
from generator.words import prose

__all__ = ["hook_functions", "hooks_page"]


def hooks_page() -> str:
    """Every hook specification, of the core and of the kvm driver, with its example."""
    parts = [
        "# Hooks",
        prose(hvcore.plugins.hookspecs.__doc__ or ""),
        "## Hooks of every driver",
        *_hooks(hvcore.plugins.hookspecs),
    ]
    parts += ["## Hooks of driver kvm", prose(hv_kvm.hookspecs.__doc__ or ""), *_hooks(hv_kvm.hookspecs)]
    return "\n\n".join(parts)


def hook_functions(module: ModuleType) -> list[Any]:
    """The hook specifications in a module, in the order they are written."""
    marked = f"{hvcore.plugins.hookspecs.PROJECT}_spec"
    found = [item for item in vars(module).values() if hasattr(item, marked)]
    return sorted(found, key=lambda item: int(item.__code__.co_firstlineno))


def _hooks(module: ModuleType) -> Iterator[str]:
    for function in hook_functions(module):
        hints = function.__annotations__
        arguments = ", ".join(f"{name}: {hints[name]}" for name in hints if name != "return")
        yield f"### {function.__name__}\n\n```python\ndef {function.__name__}({arguments}) -> {hints['return']}\n```"
        yield prose(function.__doc__ or "")
