"""What the node answers when it has done something: how that went, or how to reach what was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from hvcore.model.state import Op, State

__all__ = ["Console", "Execution", "Log", "Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an operation ended: whether it changed anything, and the state it left.

    ``stopped_by`` says what stopped the instance: ``powerdown``, ``quit``, ``kill``, ``script``, ``term`` or ``gone``
    (it had ended before). ``notes`` are facts worth knowing that are not failures.
    """

    name: str
    op: Op
    changed: bool
    state: State
    stopped_by: str | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

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
    ``lock`` is the file on which the one user of the console holds a ``flock``, with its pid in it; the core fills it
    in.
    """

    name: str
    socket: str | None = None
    argv: tuple[str, ...] = ()
    lock: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A program to be run inside an instance: execute ``argv`` on this node, with the caller's own descriptors.

    It ends as the program does, with 128 + n for signal n, and with 125 when the program could not be run.
    """

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """Where what an instance has written is kept. ``path`` is a file of this node; it goes when the instance stops."""

    name: str
    path: str
