"""The answers of the node: the outcome of an operation, a way to reach an instance, a finding."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from typing import Any

from hvcore.frozen import dataclass
from hvcore.model.state import Op, State
from hvcore.plain import plain_fields

__all__ = ["Console", "Execution", "Finding", "Log", "Outcome", "Severity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an operation ended: whether it changed anything, and the state it left.

    ``stopped_by`` says what stopped the instance: ``powerdown``, ``quit``, ``kill``, ``script``, ``term`` or ``gone``
    (it had ended before). ``clean``: whether the guest shut down before it was stopped. False if it was cut off: its file
    systems may need a check. None if nothing was stopped, or if that is not known. ``notes`` are facts worth knowing that
    are not failures. ``device`` is the name of the device that was changed.
    """

    name: str
    op: Op
    changed: bool
    state: State
    stopped_by: str | None = None
    seconds: float = 0.0
    clean: bool | None = None
    notes: tuple[str, ...] = ()
    device: str | None = None

    def __str__(self) -> str:
        if not self.changed:
            return f"{self.name}: {self.state}, nothing to do"
        how = f"{self.stopped_by}, " if self.stopped_by else ""
        return f"{self.name}: {self.state} ({how}{self.seconds:.2f} s)"

    @property
    def rung(self) -> str | None:
        """The former name of `stopped_by`. Use that."""
        return self.stopped_by

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain JSON types."""
        return {**asdict(self), "op": str(self.op), "state": str(self.state), "notes": list(self.notes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """How to reach an instance's console on this node.

    Either ``socket`` (the path of a listening unix stream socket) or ``argv`` (a command to run on a terminal).
    ``lock`` is the file on which the user of the console holds a ``flock``, with its pid in it; the core fills it in.
    """

    name: str
    socket: str | None = None
    argv: tuple[str, ...] = ()
    lock: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The answer as plain JSON types."""
        return plain_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A command of this node that runs a program inside an instance, with the caller's descriptors.

    Its exit status is the program's, 128 + n for signal n, and 125 if the program could not be run.
    """

    name: str
    argv: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The answer as plain JSON types."""
        return plain_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The output of an instance: ``path`` is a file of this node, which is removed when the instance stops."""

    name: str
    path: str

    def to_json(self) -> dict[str, Any]:
        """The answer as plain JSON types."""
        return plain_fields(self)


class Severity(StrEnum):
    """``ok``; ``note``: works, but the operator should know; ``problem``: something installed does not work here."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one check. ``todo`` is the command or step that fixes a problem, else None.

    ``area`` is its heading; findings of a driver are listed under the driver's name.
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
