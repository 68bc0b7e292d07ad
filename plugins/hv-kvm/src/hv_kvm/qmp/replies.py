"""Taking fields out of replies: a missing or mistyped one is a QmpProtocolError that names the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from hv_kvm.qmp.errors import QmpProtocolError

__all__ = ["Reply", "as_list", "as_reply"]

Value = TypeVar("Value", str, int, bool)


class Reply:
    """One JSON object of a reply to ``command``."""

    __slots__ = ("_body", "command", "subject")

    def __init__(self, body: Mapping[str, Any], *, command: str, subject: str) -> None:
        self._body, self.command, self.subject = body, command, subject

    def need(self, key: str, kind: type[Value]) -> Value:
        """The value of a member that QEMU always sends. ``True`` is no integer here."""
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

    def __contains__(self, key: str) -> bool:
        return key in self._body

    def part(self, key: str) -> Reply:
        """The object that the member ``key`` holds."""
        return as_reply(self._body.get(key), command=self.command, subject=self.subject)

    def rows(self, key: str) -> list[Reply]:
        """The objects in the list that the member ``key`` holds."""
        return as_list(self._body.get(key), command=self.command, subject=self.subject)

    def names(self, key: str) -> frozenset[str]:
        """The strings in the list that the member ``key`` holds."""
        value = self._body.get(key)
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            what = f"the reply to {self.command} has no list of names {key!r}, got {value!r:.60}"
            raise QmpProtocolError(subject=self.subject, what=what)
        return frozenset(value)


def as_reply(body: Any, *, command: str, subject: str) -> Reply:
    """``body`` as one JSON object. Raises QmpProtocolError when it is something else."""
    if not isinstance(body, dict):
        raise QmpProtocolError(subject=subject, what=f"the reply to {command} is not an object, got {body!r:.60}")
    return Reply(body, command=command, subject=subject)


def as_list(body: Any, *, command: str, subject: str) -> list[Reply]:
    """``body`` as a list of JSON objects. Raises QmpProtocolError when it is something else."""
    if not isinstance(body, list):
        raise QmpProtocolError(subject=subject, what=f"the reply to {command} is not a list, got {body!r:.60}")
    return [as_reply(row, command=command, subject=subject) for row in body]
