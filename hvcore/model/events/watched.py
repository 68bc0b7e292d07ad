"""What a driver offers to `Node.watch`: the files in which the program of an instance writes its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from hvcore.frozen import dataclass
from hvcore.model.record import ProcessId

if TYPE_CHECKING:  # 7 ms for classes that only a watching process needs
    from hvcore.model.events.events import Event

__all__ = ["EventFile", "LineReader", "Watched"]

LineReader = Callable[[bytes], Iterable["Event"]]
"""The events in one line of such a file, without its newline. Lines come in order; each can have any contents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFile:
    """A file with a line for each event. The core follows it, and bounds what it reads of it.

    ``reader`` makes the function that reads lines; its argument says whether it begins at the first line of the file.
    """

    path: str
    reader: Callable[[bool], LineReader]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The sources of an instance's events besides its record and its process, which the core watches itself.

    ``programs`` are processes beside that of the instance, by a name for people. ``reports_pauses``: events `Paused` and
    `Resumed` are in the files. Otherwise the core compares the states.
    """

    files: tuple[EventFile, ...] = ()
    programs: Mapping[str, ProcessId] = field(default_factory=dict)
    reports_pauses: bool = False
