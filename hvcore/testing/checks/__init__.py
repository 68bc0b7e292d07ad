"""All checks, one module to an area, in the order in which they are run."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from hvcore.testing.check import Check
from hvcore.testing.checks import (
    budgets,
    buttons,
    concurrency,
    crash,
    device_settings,
    graphics,
    idempotency,
    leaks,
    load,
    methods,
    optional,
    parameters,
    plugging,
    recovery,
    relocation,
    rendering,
    running,
    security,
    seen_events,
    states,
)

__all__ = ["CHECKS"]

_AREAS: Final[tuple[ModuleType, ...]] = (
    *(
        load,
        methods,
        parameters,
        rendering,
        states,
        optional,
        plugging,
        device_settings,
        graphics,
        running,
        buttons,
        relocation,
        seen_events,
        idempotency,
        crash,
    ),
    *(recovery, concurrency, leaks, security, budgets),
)

CHECKS: Final[tuple[Check, ...]] = tuple(
    thing
    for area in _AREAS
    for thing in vars(area).values()
    if isinstance(thing, Check) and thing.body.__module__ == area.__name__
)
"""Every check, in the order in which they are run."""
