"""What happens to instances, as values: `Node.watch` yields them.

The times and texts of events of a guest come from its program, which the guest may have taken over. They are for people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Final

from hvcore.frozen import dataclass
from hvcore.model.state import EndedBy
from hvcore.plain import plain_fields

__all__ = [
    "EVENTS",
    "Attached",
    "Balloon",
    "Detached",
    "DeviceDeleted",
    "DriverEvent",
    "Event",
    "EventsLost",
    "IoError",
    "MigrationStatus",
    "NotWatched",
    "Panic",
    "Paused",
    "ProgramEnded",
    "Reset",
    "Resumed",
    "Started",
    "Stopped",
    "Watchdog",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happened to instance ``name`` of that driver, and when: ``at`` in seconds since 1970.

    ``event`` is the word for it in JSON and on the command line.
    """

    event: ClassVar[str] = ""

    name: str
    driver: str
    at: float

    @property
    def details(self) -> str:
        """What else is known, on one line for people. Empty if the event says everything."""
        known = [(key, value) for key, value in plain_fields(self).items() if key not in _COMMON and value is not None]
        return ", ".join(
            str(value) if key == "reason" and len(known) == 1 else f"{key} {value}" for key, value in known
        )

    def __str__(self) -> str:
        details = self.details
        return f"{self.name}: {self.event}{f', {details}' if details else ''}"

    def to_json(self) -> dict[str, Any]:
        """The event as plain JSON types."""
        return {"event": self.event, **plain_fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """The instance was started, by a start or a reboot. It runs, or is paused if that was asked for."""

    event: ClassVar[str] = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """The instance has ended. ``ended_by`` and ``reason`` are as in `InstanceInfo`."""

    event: ClassVar[str] = "stopped"

    ended_by: EndedBy
    reason: str | None = None

    @property
    def details(self) -> str:
        """Who ended it, and the reason."""
        return f"{self.ended_by}: {self.reason}" if self.reason else str(self.ended_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Event):
    """The CPUs of the instance have stopped. ``reason``: why, None for a pause that was asked for."""

    event: ClassVar[str] = "paused"

    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """The CPUs of the instance run again."""

    event: ClassVar[str] = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reset(Event):
    """The machine was reset. ``by_guest``: by the guest itself, as when it reboots; None if that is not known."""

    event: ClassVar[str] = "reset"

    by_guest: bool | None = None

    @property
    def details(self) -> str:
        """Who did it."""
        return "" if self.by_guest is None else "by the guest" if self.by_guest else "from outside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached(Event):
    """The instance got a device while it ran. ``device`` is its name, as in `hv info`."""

    event: ClassVar[str] = "attached"

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Detached(Event):
    """A device was taken from the instance while it ran. ``device`` was its name."""

    event: ClassVar[str] = "detached"

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDeleted(Event):
    """The guest gave a device up. ``device`` is the id in its program, None for a part of a device; ``path`` its place."""

    event: ClassVar[str] = "device-deleted"

    device: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus(Event):
    """A migration of the instance changed its status."""

    event: ClassVar[str] = "migration"

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog(Event):
    """The watchdog of the guest expired, because the guest hangs. ``action`` is what follows, such as ``reset``."""

    event: ClassVar[str] = "watchdog"

    action: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Panic(Event):
    """The operating system of the guest crashed. ``action`` is what follows, such as ``poweroff``."""

    event: ClassVar[str] = "panic"

    action: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IoError(Event):
    """A disk of the guest had an error. ``action``: ``stop`` paused the guest, ``report`` passed the error to it.

    ``no_space``: the file system of the node was full.
    """

    event: ClassVar[str] = "io-error"

    device: str | None = None
    operation: str | None = None
    action: str | None = None
    no_space: bool = False
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balloon(Event):
    """The guest gave memory back or took it. ``memory_mib`` is what it has now."""

    event: ClassVar[str] = "balloon"

    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEnded(Event):
    """A program beside the instance ended, and the instance goes on without it: ``passt of nic0``."""

    event: ClassVar[str] = "program-ended"

    program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverEvent(Event):
    """Any other event of the instance's program. ``what`` is the program's word for it, ``data`` what came with it.

    Neither is stable: a newer program has others. Data of more than 2 KiB is left out.
    """

    event: ClassVar[str] = "driver"

    what: str
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def details(self) -> str:
        """The word of the program, and the simple values that came with it."""
        simple = (f"{key} {value}" for key, value in plain_fields(self)["data"].items() if _is_simple(value))
        return ", ".join((self.what, *simple))


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost(Event):
    """Events of the instance are missing at this place: its journal was trimmed, cut or replaced, or has no such line."""

    event: ClassVar[str] = "events-lost"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotWatched(Event):
    """The instance cannot be watched, or not completely, such as one whose record is damaged."""

    event: ClassVar[str] = "not-watched"

    reason: str


def _is_simple(value: object) -> bool:
    return isinstance(value, str | int | float)


_COMMON: Final = frozenset({"name", "driver", "at"})

EVENTS: Final[tuple[type[Event], ...]] = (
    *(Started, Stopped, Paused, Resumed, Reset),
    *(Attached, Detached, DeviceDeleted, MigrationStatus),
    *(Watchdog, Panic, IoError, Balloon, ProgramEnded),
    *(DriverEvent, EventsLost, NotWatched),
)
"""Every class of events."""
