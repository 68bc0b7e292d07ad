"""What a check is: a name, a level, a tier, the reason why it exists, and a body that raises.

A check is one value. The pytest classes, the command ``hv conformance`` and the reference of all checks are made from
it.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hvcore.testing.bench import Bench
from hvcore.testing.verdict import Failed, Skipped, require

__all__ = ["Check", "Failed", "Level", "Skipped", "Tier", "check", "require"]

# What reports call the checks of a module, where that is another word.
_AREAS: Final = {"methods": "contract", "optional": "capabilities", "parameters": "schema", "states": "lifecycle"}


class Level(StrEnum):
    """How binding a check is.

    ``must``: every driver passes. ``capability``: what the driver claims works, and what it does not claim is refused
    with the typed error. ``hardening``: every driver passes, or says in its subject why it cannot.
    """

    MUST = "must"
    CAPABILITY = "capability"
    HARDENING = "hardening"


class Tier(StrEnum):
    """What a check needs. ``static``: the installed driver and no hypervisor. ``live``: it starts instances."""

    STATIC = "static"
    LIVE = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that a driver has to do. ``what`` says what is looked at, ``why`` what goes wrong without it."""

    name: str
    area: str
    level: Level
    tier: Tier
    what: str
    why: str
    body: Callable[[Bench], None]

    def explain(self) -> str:
        """The check in words, for people, in lines of at most 100 characters."""
        head = f"{self.name} ({self.level}, {self.tier}, {self.area})"
        return "\n\n".join(textwrap.fill(part, 100) for part in (head, self.what, f"Why: {self.why}"))


def check(level: Level, tier: Tier, *, why: str) -> Callable[[Callable[[Bench], None]], Check]:
    """Make a function into the `Check` of its name. Its docstring says what is looked at, its module the area."""

    def made(body: Callable[[Bench], None]) -> Check:
        name = body.__name__
        what = " ".join((inspect.getdoc(body) or "").split())
        module = body.__module__.rpartition(".")[2]
        area = _AREAS.get(module, module)
        return Check(name=name, area=area, level=level, tier=tier, what=what, why=" ".join(why.split()), body=body)

    return made
