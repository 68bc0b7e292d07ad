"""Every error hvcore raises, as one tree.

Every message reads ``subject: what is wrong, got value; what to do``: lower case, no full stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

__all__ = [
    "BusyError",
    "ConfinementError",
    "DeadlineError",
    "DiskInUseError",
    "DriverError",
    "DriverLoadError",
    "HookError",
    "HvError",
    "InputError",
    "InstanceFileError",
    "LaunchError",
    "LeftoverError",
    "NodeError",
    "NotFoundError",
    "OperationError",
    "ParamsError",
    "Problem",
    "RecordError",
    "StateError",
    "UnknownDriverError",
    "UnsupportedError",
    "VerifyError",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with an input.

    ``path`` names the place as a person writes it (``params.vnc_port``, ``disks[0].path``).
    ``got`` is the value's ``repr``, or None when there is none to show or it is secret. ``where`` is the layer and the
    file that a value came from, when that is not the instance itself.
    """

    path: str
    what: str
    got: str | None = None
    todo: str | None = None
    where: str | None = None

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        got = f", got {self.got}" if self.got is not None else ""
        todo = f"; {self.todo}" if self.todo else ""
        return f"{self.path}{where}: {self.what}{got}{todo}"

    def to_json(self) -> dict[str, Any]:
        """The problem as plain JSON types."""
        return {"path": self.path, "what": self.what, "got": self.got, "todo": self.todo, "where": self.where}


class HvError(Exception):
    """Base of every error that hvcore raises on purpose; ``exit_code`` is what ``hv`` ends with."""

    exit_code: ClassVar[int] = 1

    def to_json(self) -> dict[str, Any]:
        """The error as plain JSON types: the same facts that the text shows."""
        return {"error": type(self).__name__, "message": str(self), "exit_code": self.exit_code}


class _ProblemsError(HvError):
    def __init__(self, subject: str, problems: Iterable[Problem]) -> None:
        self.subject = subject
        self.problems: tuple[Problem, ...] = tuple(problems)
        count = len(self.problems)
        head = f"{subject}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))

    def to_json(self) -> dict[str, Any]:
        """The error as plain JSON types, with every problem."""
        return {**super().to_json(), "problems": [problem.to_json() for problem in self.problems]}


class InputError(HvError):
    """What was asked for is wrong, whatever the node."""

    exit_code = 2


class ParamsError(_ProblemsError, InputError):
    """Every problem of an instance and its parameters, all at once in ``problems``."""


class InstanceFileError(InputError):
    """The file cannot be read as an instance description."""


class UnknownDriverError(InputError):
    """No installed driver has that name."""


class VerifyError(_ProblemsError):
    """The instance is well formed, but this node cannot run it; every reason is in ``problems``."""


class DriverLoadError(HvError):
    """A driver or an extension is installed and cannot be used; names its distribution."""


class HookError(HvError):
    """A plugin's hook raised, or returned what its specification does not allow."""

    def __init__(
        self, *, plugin: str, hook: str, what: str, owner: str | None = None, place: str | None = None
    ) -> None:
        self.plugin, self.hook, self.what, self.place = plugin, hook, what, place
        where = f" ({place})" if place else ""
        super().__init__(f"plugin {owner or plugin}, hook {hook}{where}: {what}; report this to the plugin's authors")


class DriverError(HvError):
    """A driver's own method raised what is no `HvError`, or returned what its contract does not allow."""

    def __init__(self, *, owner: str, method: str, place: str, what: str, todo: str) -> None:
        self.owner, self.method, self.place, self.what = owner, method, place, what
        super().__init__(f"driver {owner}, {method} ({place}): {what}; {todo}")


class UnsupportedError(HvError):
    """The driver does not have the ability that the operation needs."""

    exit_code = 3

    def __init__(self, *, driver: str, operation: str, reason: str = "") -> None:
        self.driver, self.operation = driver, operation
        why = f" here, {reason}" if reason else "; 'hv drivers' lists what each can do"
        super().__init__(f"driver {driver}: does not support {operation}{why}")


class NotFoundError(HvError):
    """No instance of that name is known on this node."""

    exit_code = 4

    def __init__(self, name: str, *, hint: str | None = None) -> None:
        self.name = name
        super().__init__(f"{name}: no such instance on this node; {hint or 'see hv list'}")


class BusyError(HvError):
    """Somebody else holds what the operation needs; the message names the holder."""

    exit_code = 5


class DiskInUseError(BusyError):
    """Another instance or the host itself uses the disk."""

    def __init__(self, *, path: str, holder: str) -> None:
        self.path, self.holder = path, holder
        super().__init__(f"disk {path!r}: already in use by {holder}; stop that first, a disk has one user on a node")


class StateError(HvError):
    """The operation is not a legal move from the state that the instance is in."""

    def __init__(self, *, name: str, state: str, operation: str, allowed: Sequence[str]) -> None:
        self.name, self.state, self.operation, self.allowed = name, state, operation, tuple(allowed)
        what = f"cannot {operation} while {state}; allowed now: {', '.join(allowed) or 'nothing'}"
        stop = next((f"hv {other}" for other in ("stop", "stop --force") if other in allowed), None)
        if operation == "cleanup" and stop:
            what = f"is {state}; use '{stop}' first"
        super().__init__(f"{name}: {what}")


class NodeError(HvError):
    """The node is not fit: its run directory, the caller's privileges, or a missing tool."""


class RecordError(HvError):
    """An instance's record on disk is unreadable, damaged, or written by a newer hvcore."""


class OperationError(HvError):
    """An operation was tried and did not succeed; what it had acquired was released again."""


class LaunchError(OperationError):
    """A process did not start or ended before it was ready.

    Carries how it ended, the last of what it said, and the command with secrets redacted.
    """

    def __init__(self, *, name: str, how: str, output: str, argv: Sequence[str]) -> None:
        self.name, self.how, self.output, self.argv = name, how, output, tuple(argv)
        said = output.strip().splitlines()
        tail = f': "{said[-1]:.300}"' if said else " and said nothing"
        super().__init__(f"{name}: {how}{tail}")

    def to_json(self) -> dict[str, Any]:
        """The error as plain JSON types, with output and command."""
        return {**super().to_json(), "output": self.output, "argv": list(self.argv)}


class DeadlineError(OperationError):
    """Not done in time; says what was waited for and for how long."""

    def __init__(self, *, subject: str, waiting_for: str, waited_s: float, todo: str) -> None:
        self.subject, self.waiting_for, self.waited_s = subject, waiting_for, waited_s
        super().__init__(f"{subject}: no {waiting_for} within {waited_s:.1f} s; {todo}")


class ConfinementError(OperationError):
    """What /proc shows of the process is weaker than the confinement that was asked for."""


class LeftoverError(OperationError):
    """Something an instance held could not be released; it stays in the record for the next try."""

    @classmethod
    def of(cls, name: str, reasons: Iterable[str]) -> Self:
        """All that could not be released of the instance, as one error."""
        what = f"{name}: not everything could be released: {'; '.join(reasons)}"
        return cls(what if what.endswith("try again") else f"{what}; try again")
