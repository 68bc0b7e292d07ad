"""All errors of hvcore, as one tree.

Every message reads ``subject: what is wrong, got value; what to do``: lower case, no full stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

from hvcore.frozen import dataclass
from hvcore.headline import headline
from hvcore.plain import plain

__all__ = [
    "BusyError",
    "ConfinementError",
    "DeadlineError",
    "DiskInUse",
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
    """One problem of an input.

    ``path`` is the place in the file (``params.vnc_port``, ``disks[0].path``). ``got`` is the value's ``repr``, or None
    without a value or for a secret. ``where`` is the layer and the file of the value, if not the instance.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskInUse(Problem):
    """A disk that something else uses: a start with only such problems raises `DiskInUseError`."""

    disk: str
    holder: str

    @classmethod
    def at(cls, path: str, error: DiskInUseError) -> Self:
        """The problem of the field ``path`` that names the disk of the error."""
        what, todo = (
            f"is already in use by {error.holder}",
            "stop that, or detach the disk there: only one can use a disk",
        )
        return cls(path=path, what=what, got=repr(error.path), todo=todo, disk=error.path, holder=error.holder)


class HvError(Exception):
    """Base of every error that hvcore raises on purpose; ``exit_code`` is the exit code of ``hv``.

    Its public attributes are the facts of the text. Errors can be pickled and copied, with their notes.
    """

    exit_code: ClassVar[int] = 1

    def to_json(self) -> dict[str, Any]:
        """The error as plain JSON types: its class, message, exit code and notes, and every public attribute."""
        head = {"error": type(self).__name__, "message": plain(str(self)), "exit_code": self.exit_code}
        facts = {name: plain(value) for name, value in vars(self).items() if name[0] != "_" and name not in head}
        return {**head, **facts, "notes": plain(getattr(self, "__notes__", []))}

    def __reduce__(self) -> tuple[Any, ...]:
        # By default Python calls the class with ``args``, the text alone, which keyword-only facts do not allow.
        state = {name: list(value) if name == "__notes__" else value for name, value in vars(self).items()}
        return _restored, (type(self), self.args, state)


def _restored(kind: type[HvError], args: tuple[Any, ...], state: dict[str, Any]) -> HvError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class _ProblemsError(HvError):
    def __init__(self, subject: str, problems: Iterable[Problem]) -> None:
        self.subject = subject
        self.problems: tuple[Problem, ...] = tuple(problems)
        count = len(self.problems)
        head = f"{subject}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class InputError(HvError):
    """The input is wrong, on every node."""

    exit_code = 2


class ParamsError(_ProblemsError, InputError):
    """The instance or its parameters are wrong; ``problems`` has every problem."""


class InstanceFileError(InputError):
    """The file cannot be read as an instance file."""


class UnknownDriverError(InputError):
    """No installed driver has that name."""

    def __init__(self, message: str, *, driver: str | None = None) -> None:
        self.driver = driver
        super().__init__(message)


class VerifyError(_ProblemsError):
    """The instance is valid, but this node cannot run it; ``problems`` has every reason."""

    @classmethod
    def refusal(cls, name: str, problems: Sequence[Problem]) -> HvError:
        """The error of a start or reboot: `DiskInUseError` when a disk in use is all that is wrong, else `VerifyError`."""
        busy = [problem for problem in problems if isinstance(problem, DiskInUse)]
        if busy and len(busy) == len(problems):
            return DiskInUseError(path=busy[0].disk, holder=busy[0].holder)
        return cls(name, problems)


class DriverLoadError(HvError):
    """A driver or an extension is installed, but cannot be used; the message names its distribution."""


class HookError(HvError):
    """A plugin's hook raised an exception, or returned a value that its specification does not allow."""

    def __init__(
        self, *, plugin: str, hook: str, what: str, owner: str | None = None, place: str | None = None
    ) -> None:
        self.plugin, self.hook, self.what, self.place, self.owner = plugin, hook, what, place, owner
        where = f" ({place})" if place else ""
        super().__init__(f"plugin {owner or plugin}, hook {hook}{where}: {what}; report this to the plugin's authors")


class DriverError(HvError):
    """A driver method raised an exception other than `HvError`, or returned a value its contract does not allow."""

    def __init__(self, *, owner: str, method: str, place: str, what: str, todo: str) -> None:
        self.owner, self.method, self.place, self.what = owner, method, place, what
        super().__init__(f"driver {owner}, {method} ({place}): {what}; {todo}")


class UnsupportedError(HvError):
    """The driver does not support the operation."""

    exit_code = 3

    def __init__(self, *, driver: str, operation: str, reason: str = "") -> None:
        self.driver, self.operation, self.reason = driver, operation, reason or None
        why = f" here, {reason}" if reason else "; 'hv drivers --load' lists what each driver can do"
        super().__init__(f"driver {driver}: does not support {operation}{why}")


class NotFoundError(HvError):
    """This node has no instance with that name."""

    exit_code = 4

    def __init__(self, name: str, *, hint: str | None = None) -> None:
        self.name = name
        instead = hint or "see 'hv list'"
        super().__init__(f"{name}: no such instance on this node; {instead}")


class BusyError(HvError):
    """Another operation, user or program holds what this one needs; the message names the holder.

    For the lock of an instance, ``subject`` is the instance, and ``holder_pid`` and ``holder_operation`` are known as
    far as the holder has written them down.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        subject: str = "",
        holder_pid: int | None = None,
        holder_operation: str | None = None,
        waited_s: float | None = None,
    ) -> None:
        self.subject, self.waited_s = subject, waited_s
        self.holder_pid, self.holder_operation = holder_pid, holder_operation
        super().__init__(message)


class DiskInUseError(BusyError):
    """Another instance or the node itself uses the disk."""

    def __init__(self, *, path: str, holder: str) -> None:
        self.path, self.holder = path, holder
        what = (
            f"disk {path!r}: already in use by {holder}; stop that, or detach the disk there: only one can use a disk"
        )
        super().__init__(what, subject=path)


class StateError(HvError):
    """The operation is not legal in the state of the instance."""

    def __init__(self, *, name: str, state: str, operation: str, allowed: Sequence[str]) -> None:
        self.name, self.state, self.operation, self.allowed = name, state, operation, tuple(allowed)
        what = f"cannot {operation} while {state}; allowed now: {', '.join(allowed) or 'nothing'}"
        if operation == "cleanup" and "stop" in allowed:
            what = f"is {state}; use 'hv stop' first"
        super().__init__(f"{name}: {what}")


class NodeError(HvError):
    """The node is at fault: its run directory, the caller's privileges, or a missing tool."""


class RecordError(HvError):
    """The record of an instance cannot be read, is damaged, or was written by a newer hvcore."""


class OperationError(HvError):
    """The operation failed and was undone: everything that it had acquired was released."""


class LaunchError(OperationError):
    """A process did not start, or ended before it was ready.

    Has the way the process ended, the end of its output, and the command with secrets redacted. The message quotes the
    line of the output that names the cause. ``beside`` has the output of each program that ran beside the process, by
    resource key; the message quotes the cause of each.
    """

    def __init__(
        self, *, name: str, how: str, output: str, argv: Sequence[str], beside: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.how, self.output, self.argv = name, how, output, tuple(argv)
        self.beside = dict(beside or {})
        cause = headline(output, argv)
        what = f'{name}: {how}: "{cause}"' if cause else f"{name}: {how} without output"
        others = [f'; {key}: "{headline(text)}"' for key, text in self.beside.items() if headline(text)]
        super().__init__("".join([what, *others]))


class DeadlineError(OperationError):
    """The operation took too long; the message names the missing event and the seconds waited."""

    def __init__(self, *, subject: str, waiting_for: str, waited_s: float, todo: str) -> None:
        self.subject, self.waiting_for, self.waited_s, self.todo = subject, waiting_for, waited_s, todo
        super().__init__(f"{subject}: no {waiting_for} within {waited_s:.1f} s; {todo}")


class ConfinementError(OperationError):
    """The process is confined less than the instance requires, as /proc shows."""


class LeftoverError(OperationError):
    """A resource of the instance could not be released. The record keeps it for the next try."""

    def __init__(self, message: str, *, name: str | None = None, reasons: Iterable[str] = ()) -> None:
        self.name, self.reasons = name, tuple(reasons)
        super().__init__(message)

    @classmethod
    def of(cls, name: str, reasons: Iterable[str]) -> Self:
        """One error with the reason for each resource that could not be released."""
        found = tuple(reasons)
        what = f"{name}: not everything could be released: {'; '.join(found)}"
        return cls(what if what.endswith("try again") else f"{what}; try again", name=name, reasons=found)
