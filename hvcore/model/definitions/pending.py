"""A difference between a running instance and its definition, and when it takes effect."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from hvcore.frozen import dataclass
from hvcore.plain import plain_fields

__all__ = ["Effect", "PendingChange"]


class Effect(StrEnum):
    """When a change takes effect: ``now`` (`hv apply` makes it), at the next ``reboot``, or at the next ``start``."""

    NOW = "now"
    REBOOT = "reboot"
    START = "start"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChange:
    """One difference. ``field`` is its place in an instance file, such as ``params.acpi`` or ``disks[1]``.

    ``running`` is the value that the instance runs with, ``defined`` that of its definition, both as plain JSON types; None
    for a device that only the other side has. ``layer`` is what sets the defined value: ``instance``, ``node``, a profile
    or ``default``.
    """

    field: str
    running: Any
    defined: Any
    effect: Effect
    layer: str

    def to_json(self) -> dict[str, Any]:
        """The difference as plain JSON types."""
        return plain_fields(self)
