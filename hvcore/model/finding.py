"""What an examination of a node finds: one thing, whether it is well, and what to do where it is not. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Finding", "Severity"]


class Severity(StrEnum):
    """``ok``; ``note``: works, and is worth knowing; ``problem``: something that is installed does not work here."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at. ``todo`` is the command or the step that mends it, None where nothing is to be done.

    ``area`` is the heading that it stands under; findings of a driver stand under the driver's.
    """

    subject: str
    severity: Severity
    what: str
    todo: str | None = None
    area: str = ""

    def __str__(self) -> str:
        todo = f"; {self.todo}" if self.todo else ""
        return f"{self.subject}: {self.what}{todo}"

    def to_json(self) -> dict[str, Any]:
        """The finding as plain JSON types."""
        facts = {"area": self.area, "subject": self.subject, "severity": str(self.severity)}
        return {**facts, "what": self.what, "todo": self.todo}
