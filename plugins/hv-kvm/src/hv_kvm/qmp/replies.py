"""Replies to commands by their fields: a missing or mistyped one is a QmpProtocolError that names the command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hv_kvm.qmp.client import QmpClient
from hv_kvm.qmp.errors import QmpProtocolError

__all__ = ["Reply", "ask", "ask_rows"]

Value = TypeVar("Value", str, int, bool)


class Reply:
    """One JSON object of a reply to ``command``."""

    __slots__ = ("_body", "command", "subject")

    def __init__(self, body: Mapping[str, Any], *, command: str, subject: str) -> None:
        self._body, self.command, self.subject = body, command, subject

    def need(self, key: str, kind: type[Value]) -> Value:
        """The value of a member that QEMU always sends. ``True`` is not an integer here."""
        value = self._body.get(key)
        if type(value) is not kind:
            raise QmpProtocolError(
                subject=self.subject,
                what=f"the reply to {self.command} has no {kind.__name__} {key!r}, got {value!r:.60}",
            )
        return value

    def maybe(self, key: str, kind: type[Value], default: Value) -> Value:
        """The value of a member that some QEMU releases leave out, or ``default``."""
        return self.need(key, kind) if key in self._body else default

    def number(self, key: str) -> float:
        """The number of a member that some QEMU releases leave out, else 0."""
        value = self._body.get(key, 0)
        return float(value) if type(value) in (int, float) else 0.0

    def __contains__(self, key: str) -> bool:
        return key in self._body

    def part(self, key: str) -> Reply:
        """The object that the member ``key`` holds."""
        return _as_reply(self._body.get(key), self.command, self.subject)

    def rows(self, key: str) -> list[Reply]:
        """The objects in the list that the member ``key`` holds."""
        return _as_rows(self._body.get(key), self.command, self.subject)

    def names(self, key: str) -> frozenset[str]:
        """The strings in the list that the member ``key`` holds."""
        value = self._body.get(key)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            what = f"the reply to {self.command} has no list of names {key!r}, got {value!r:.60}"
            raise QmpProtocolError(subject=self.subject, what=what)
        return frozenset(value)


def ask(client: QmpClient, command: str, deadline_s: float, *, fds: Sequence[int] = ()) -> Reply:
    """The JSON object that ``command`` returns. Raises QmpProtocolError when it returns something else."""
    return _as_reply(client.execute(command, deadline_s=deadline_s, fds=fds), command, client.subject)


def ask_rows(
    client: QmpClient, command: str, deadline_s: float, arguments: Mapping[str, Any] | None = None
) -> list[Reply]:
    """The list of JSON objects that ``command`` returns. Raises QmpProtocolError when it returns something else."""
    return _as_rows(client.execute(command, arguments, deadline_s=deadline_s), command, client.subject)


def ask_rows_of_all(
    client: QmpClient, commands: Sequence[tuple[str, Mapping[str, Any] | None]], deadline_s: float
) -> list[list[Reply]]:
    """The same for several commands that are sent together."""
    found = client.execute_all(commands, deadline_s=deadline_s)
    return [_as_rows(body, command, client.subject) for (command, _), body in zip(commands, found, strict=True)]


def _as_reply(body: Any, command: str, subject: str) -> Reply:
    if not isinstance(body, dict):
        raise QmpProtocolError(subject=subject, what=f"the reply to {command} is not an object, got {body!r:.60}")
    return Reply(body, command=command, subject=subject)


def _as_rows(body: Any, command: str, subject: str) -> list[Reply]:
    if not isinstance(body, list):
        raise QmpProtocolError(subject=subject, what=f"the reply to {command} is not a list, got {body!r:.60}")
    return [_as_reply(row, command, subject) for row in body]
