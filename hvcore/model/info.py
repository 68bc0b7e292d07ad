"""What the node tells about an instance: figures, how an operation went, how to reach a console."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Self

from hvcore.model.state import Op, State

__all__ = ["Console", "Execution", "InstanceInfo", "Log", "Observation", "Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a driver sees of a started instance: the state, why, and live figures (None: not known).

    ``memory_mib`` and ``resident_mib`` in MiB, ``cpu_seconds`` of host cpu since start, ``uptime_s``
    since the process began. ``details`` holds what else the driver can say, as plain JSON types.
    """

    state: State
    reason: str | None = None
    pid: int | None = None
    memory_mib: int | None = None
    resident_mib: int | None = None
    vcpus: int | None = None
    cpu_seconds: float | None = None
    uptime_s: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


_OBSERVED: Final = tuple(one.name for one in fields(Observation))
_FIRST: Final = ("name", "driver", "state", "reason", "pid", "uuid")  # the order of the keys, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInfo(Observation):
    """One instance as the node sees it now: whose observation it is. ``to_json`` has stable keys."""

    name: str
    driver: str
    uuid: str | None = None

    @classmethod
    def of(cls, observation: Observation, *, name: str, driver: str, uuid: str | None) -> Self:
        """That observation, of the instance that is named."""
        return cls(name=name, driver=driver, uuid=uuid, **{key: getattr(observation, key) for key in _OBSERVED})

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        return {**dict.fromkeys(_FIRST), **asdict(self), "state": str(self.state)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an operation ended: what it was, whether it changed anything, and the state it left.

    ``rung`` says what made a stop work: ``powerdown``, ``quit``, ``kill``, ``script``, ``term`` or
    ``gone`` (it had ended before). ``notes`` are things that did not fail and should be known.
    """

    name: str
    op: Op
    changed: bool
    state: State
    rung: str | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain JSON types."""
        return {**asdict(self), "op": str(self.op), "state": str(self.state), "notes": list(self.notes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """How to reach an instance's console on this node.

    Either ``socket`` (the path of a listening unix stream socket) or ``argv`` (a command to run on a terminal).
    ``lock`` is the file on which the one user of the console holds a ``flock``, with its pid in it; the core fills it in.
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
