"""The answers of the node: the state of an instance, the outcome of an operation, a way to reach it, a finding."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Self

from hvcore.model.instance import Disk, Nic
from hvcore.model.state import Op, State

__all__ = ["Console", "Execution", "Finding", "InstanceInfo", "Log", "Observation", "Outcome", "Severity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A started instance as its driver sees it: the state, the reason for it, and live figures (None: not known).

    ``memory_mib`` and ``resident_mib`` in MiB, ``cpu_seconds`` of host cpu since start, ``uptime_s``
    since the process began. ``details`` has further facts of the driver, as plain JSON types.
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


_FIRST: Final = ("name", "driver", "state", "reason", "pid", "uuid")  # the order of the keys, for people


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceInfo(Observation):
    """One instance as the node sees it now. ``to_json`` has stable keys.

    ``source`` is its instance file, None if there was none. ``started_at`` and ``ended_at`` are seconds since 1970; the
    end is None while it runs, and when nothing tells. ``nics`` have the MAC addresses that are in use.
    """

    name: str
    driver: str
    uuid: str | None = None
    source: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()

    @classmethod
    def of(cls, observation: Observation, *, name: str, driver: str, **known: Any) -> Self:
        """The observation, with the name of its instance and what else is known of it."""
        seen = {field.name: getattr(observation, field.name) for field in fields(Observation)}
        return cls(name=name, driver=driver, **known, **seen)

    def to_json(self) -> dict[str, Any]:
        """The facts as plain JSON types."""
        facts = {**dict.fromkeys(_FIRST), **asdict(self), "state": str(self.state)}
        return {**facts, "disks": list(facts["disks"]), "nics": list(facts["nics"])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an operation ended: whether it changed anything, and the state it left.

    ``stopped_by`` says what stopped the instance: ``powerdown``, ``quit``, ``kill``, ``script``, ``term`` or ``gone``
    (it had ended before). ``clean``: whether the guest shut down before it was stopped. False if it was cut off: its file
    systems may need a check. None if nothing was stopped, or if nothing tells. ``notes`` are facts worth knowing that
    are not failures.
    """

    name: str
    op: Op
    changed: bool
    state: State
    stopped_by: str | None = None
    seconds: float = 0.0
    clean: bool | None = None
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
    ``lock`` is the file on which the user of the console holds a ``flock``, with its pid in it; the core fills it in.
    """

    name: str
    socket: str | None = None
    argv: tuple[str, ...] = ()
    lock: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A command of this node that runs a program inside an instance, with the caller's descriptors.

    Its exit status is the program's, 128 + n for signal n, and 125 if the program could not be run.
    """

    name: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The output of an instance: ``path`` is a file of this node, which is removed when the instance stops."""

    name: str
    path: str


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
