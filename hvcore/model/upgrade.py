"""What a new version of a driver's program would change for an instance. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from hvcore.frozen import dataclass
from hvcore.model.abi import AbiChange
from hvcore.plain import plain_fields

__all__ = ["Upgrade", "UpgradeCheck", "UpgradeVerdict"]


class UpgradeVerdict(StrEnum):
    """The answer for one instance."""

    SAME = "same"
    """It sees the same machine, and its state can be loaded."""
    DIFFERS = "differs"
    """It sees another machine."""
    REFUSED = "refused"
    """The new program cannot run it, or cannot load its state."""
    UNKNOWN = "unknown"
    """It could not be found out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """A driver's answer for one spec: what changes, why the program refuses it, and what the operator should know."""

    changes: tuple[AbiChange, ...] = ()
    refusals: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeCheck:
    """The answer for one instance, which runs, or is only defined."""

    name: str
    running: bool
    verdict: UpgradeVerdict
    changes: tuple[AbiChange, ...] = ()
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, found: Upgrade, *, running: bool) -> UpgradeCheck:
        """The verdict on what the driver found."""
        verdict = (
            UpgradeVerdict.REFUSED
            if found.refusals
            else UpgradeVerdict.DIFFERS
            if found.changes
            else UpgradeVerdict.SAME
        )
        return cls(
            name=name,
            running=running,
            verdict=verdict,
            changes=found.changes,
            reasons=found.refusals,
            notes=found.notes,
        )

    def to_json(self) -> dict[str, Any]:
        """All fields, as plain JSON."""
        return plain_fields(self)
