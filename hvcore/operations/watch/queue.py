"""The events that wait for the caller of a watch, and what is known after each."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from hvcore.model.events.bookmark import Mark
from hvcore.model.events.events import Event

__all__ = ["EventQueue"]


class EventQueue:
    """Events in order. ``marks`` has what was known of each instance after the last event that was taken."""

    def __init__(self, marks: dict[str, Mark]) -> None:
        self.marks = marks
        self._waiting: deque[tuple[Event | None, str, Mark | None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def extend(self, name: str, news: Iterable[tuple[Event | None, Mark | None]]) -> None:
        """Add what is new of that instance. Without an event, only what is known has changed."""
        self._waiting.extend((event, name, mark) for event, mark in news)

    def take(self) -> Event | None:
        """The next event; None without one."""
        self.pass_silent()
        if not self._waiting:
            return None
        event, name, mark = self._waiting.popleft()
        self._know(name, mark)
        return event

    def pass_silent(self) -> None:
        """Take over what is known up to the next event, which stays."""
        while self._waiting and self._waiting[0][0] is None:
            self._know(*self._waiting.popleft()[1:])

    def _know(self, name: str, mark: Mark | None) -> None:
        if mark is None:
            self.marks.pop(name, None)
        else:
            self.marks[name] = mark
