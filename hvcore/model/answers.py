"""The answers of the node: the state of an instance, the outcome of an operation, a way to reach it, a finding."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final, Self

from hvcore.model.instance import Disk, Nic
from hvcore.model.state import Op, State
from hvcore.plain import plain_fields

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


_FIGURES: Final = ("pid", "memory_mib", "resident_mib", "vcpus", "cpu_seconds", "uptime_s")
_NUMBER: Final = (int, float)  # each of these once: a list checks hundreds of observations
_TEXT: Final = (str, type(None))
_LARGEST: Final = 2**63


def fault_of(found: Observation) -> str | None:
    """What no program can use in an observation: a field of another type, NaN, or details that JSON cannot have. Or None."""
    if not isinstance(found.state, State):
        return f"state is {found.state!r:.80}, not an hvcore.plugin.State"
    if not isinstance(found.reason, _TEXT):
        return f"reason is {found.reason!r:.80}, not a text or None"
    for name in _FIGURES:
        value = getattr(found, name)
        number = type(value) is not bool and isinstance(value, _NUMBER)
        if value is not None and not (number and 0 <= value < _LARGEST):  # False for NaN
            return f"{name} is {value!r:.80}, not a number of at least 0 or None"
    if not isinstance(found.details, dict):
        return f"details are {found.details!r:.80}, not a dict"
    if all(_is_plain(key) and _is_plain(value) for key, value in found.details.items()):
        return None
    try:
        json.dumps(found.details, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return f"details cannot be written as JSON ({error})"
    return None


def _is_plain(value: object) -> bool:
    """Whether JSON can have it, seen without writing it: a text, or a whole number of 63 bits."""
    return type(value) is str or (type(value) is int and -_LARGEST < value < _LARGEST)


_OBSERVED: Final = tuple(field.name for field in fields(Observation))
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
        seen = {name: getattr(observation, name) for name in _OBSERVED}
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
