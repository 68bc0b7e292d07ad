"""The events that follow from what is seen of an instance, and from what was known of it before. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.events.bookmark import Mark
from hvcore.model.events.events import Attached, Detached, Event, Paused, Resumed, Started, Stopped
from hvcore.model.state import EndedBy

__all__ = ["UNSEEN", "Ending", "Seen", "begun", "changed", "gone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an instance ended: as `Stopped` has it."""

    by: EndedBy
    reason: str | None = None
    at: float | None = None


UNSEEN: Final = Ending(by=EndedBy.UNKNOWN, reason="it ended between two watches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An instance with a record, at the time ``at``.

    ``up``: its start is complete, ``ending`` None while it lives. ``pause`` is None if other sources report pauses, else
    whether it is paused, with its reason.
    """

    name: str
    driver: str
    at: float
    started_at: float
    up: bool
    ending: Ending | None = None
    pause: bool | None = None
    pause_reason: str | None = None
    devices: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


News = Iterator[tuple[Event, Mark]]
"""Events, each with what is known after it."""


def gone(name: str, before: Mark, ending: Ending, at: float) -> Iterator[Event]:
    """What is reported of an instance without any state on the node."""
    if before.started and not before.ended:
        when = at if ending.at is None else ending.at
        yield Stopped(name=name, driver=before.driver, at=when, ended_by=ending.by, reason=ending.reason)


def begun(before: Mark | None, seen: Seen) -> News:
    """The event of its start, if that is new; ``before`` is about the same start, or None."""
    mark = before or Mark(driver=seen.driver, started_at=seen.started_at)
    if seen.up and not mark.started:
        mark = replace(
            mark,
            started=True,
            paused=bool(seen.pause),
            devices=seen.devices,
            programs=seen.programs,
            driver=seen.driver,
        )
        yield Started(name=seen.name, driver=seen.driver, at=seen.started_at), mark


def changed(mark: Mark, seen: Seen) -> News:
    """Events about devices, a pause and the end of an instance whose start was reported."""
    about: dict[str, Any] = {"name": seen.name, "driver": seen.driver, "at": seen.at}
    if not mark.started or mark.ended:
        return
    for device in seen.devices:
        if device not in mark.devices:
            mark = replace(mark, devices=(*mark.devices, device))
            yield Attached(device=device, **about), mark
    for device in mark.devices if seen.ending is None else ():
        if device not in seen.devices:
            mark = replace(mark, devices=tuple(one for one in mark.devices if one != device))
            yield Detached(device=device, **about), mark
    if seen.ending is not None:
        mark = replace(mark, ended=True)
        for event in gone(seen.name, replace(mark, ended=False), seen.ending, seen.at):
            yield event, mark
    elif seen.pause is not None and seen.pause != mark.paused:
        mark = replace(mark, paused=seen.pause)
        yield (Paused(reason=seen.pause_reason, **about) if seen.pause else Resumed(**about)), mark
