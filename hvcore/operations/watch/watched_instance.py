"""Following one instance for `Node.watch`: its record, its processes, and the files in which its program writes events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from hvcore.deadline import wall_clock_s
from hvcore.errors import HvError
from hvcore.host.growing_file import GrowingFile, Missing
from hvcore.host.processes.process import alive, boot_id
from hvcore.model.events.bookmark import Mark
from hvcore.model.events.events import Event, EventsLost, NotWatched, ProgramEnded
from hvcore.model.events.news import Ending, Seen, begun, changed, gone
from hvcore.model.events.watched import LineReader, Watched
from hvcore.model.observation import Observation
from hvcore.model.record import Phase, Record
from hvcore.model.state import ACTIVE, ENDED, EndedBy, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import ended_at
from hvcore.operations.inspection.observe import Observed, observed
from hvcore.operations.watch.processes import OWN, Processes
from hvcore.plugins.protocols import Watchable

__all__ = ["Follower", "News"]

_AGAIN_S: Final = 0.1  # while another operation is in progress, which the kernel does not report
_LOOK_S: Final = 1.0  # at an instance without a process of its own, whose end nothing reports
_STATUS_S: Final = 10.0  # for the exit status of a process that has ended, on a busy node
_MONITOR: Final = "."  # no name of a program
_TOGETHER_S: Final = 0.2  # a program beside an instance may end a moment before the instance

News = Iterator[tuple[Event | None, Mark | None]]
"""Events, each with what is known of the instance after it; None for the event if only that changed."""


class _File(NamedTuple):
    key: str
    file: GrowingFile
    read: LineReader


class Follower:
    """One instance. ``mark`` is what was reported of it, None for nothing.

    ``watches`` is called with each path of a file of events. ``due`` is when to look again, in monotonic seconds, None for
    after a change. ``finished``: nothing of the instance is left.
    """

    def __init__(
        self,
        context: Context,
        name: str,
        mark: Mark | None,
        *,
        processes: Processes,
        watches: Callable[[str, str], None],
    ) -> None:
        self.name, self.mark, self.processes = name, mark, processes
        self.due: float | None = None
        self.finished = False
        self._context = context
        self._watches = watches
        self._files: dict[str, _File] = {}
        self._missed: dict[str, float] = {}  # programs that have ended, and when
        self._own_ended = False
        self._status_by: float | None = None
        self._status_final = False
        self._told = ""
        self._version: tuple[object, ...] = ()
        self._watched = Watched()

    @property
    def more(self) -> bool:
        """Whether there is more to read at once."""
        return any(one.file.more for one in self._files.values())

    def look(self, seen: Observed | None = None) -> News:
        """What is new of the instance."""
        self.due = None
        self._own_ended = OWN in self.processes.drop_ended() or self._own_ended
        try:
            seen = observed(self._context, self.name) if seen is None else seen
            if seen.record is None:
                yield from self._without_record(seen)
            else:
                yield from self._with_record(seen.record, seen)
        except HvError as error:
            yield from self._not_watched(str(error))
            self._again(_LOOK_S)

    def read(self) -> News:
        """The events in the lines that were added."""
        for one in self._files.values():
            lost: EventsLost | None = None
            for item in one.file.added():
                if self.mark is not None:
                    self.mark = replace(self.mark, offsets={**self.mark.offsets, one.key: item.end})
                if isinstance(item, Missing):
                    lost = _lost(self.name, self.mark, item.reason)
                    continue
                for event in _events(one, item.text, self.name, self.mark):
                    if lost is not None:  # before this event, so not later
                        yield replace(lost, at=event.at), self.mark
                        lost = None
                    yield event, self.mark
            if lost is not None:
                yield lost, self.mark
        yield None, self.mark

    def _without_record(self, seen: Observed) -> News:
        lives, now = OWN in self.processes.keys, wall_clock_s()
        if self._context.store.locked(self.name):
            self._again(_AGAIN_S)  # a start or a reboot is in progress, or a release
            if lives or seen.state is not State.STOPPED:
                return
        elif lives or seen.state is not State.STOPPED:
            removed = f"{self.name}: still runs, but its state in the run directory was removed"
            yield from self._not_watched(seen.observation.reason or removed)
            before = self.mark
            if self._own_ended and before is not None:
                self.mark = replace(before, ended=True)
                ending = Ending(by=EndedBy.UNKNOWN, reason=seen.observation.reason)
                yield from ((event, self.mark) for event in gone(self.name, before, ending, now))
            return
        mark, self.mark = self.mark, None
        if mark is not None:
            reboot = "for a reboot" if self._context.store.kept(self.name).exists else None
            for event in gone(self.name, mark, Ending(by=EndedBy.STOP, reason=reboot), now):
                yield event, None
        yield None, None
        self._reset()
        self.finished = self.due is None

    def _with_record(self, record: Record, seen: Observed) -> News:
        if self.mark is not None and self.mark.started_at != record.started_at:
            mark, self.mark = self.mark, None
            for event in gone(self.name, mark, Ending(by=EndedBy.STOP), record.started_at):
                yield event, None
            self._reset()
        up = record.phase not in (Phase.STARTING, Phase.ARRIVING)
        if up:
            yield from self._follow(record)
        now = self._seen(record, seen, up=up)
        for event, mark in begun(self.mark, now):
            self.mark = mark
            yield event, mark
        if self.mark is None:
            self.mark = Mark(driver=record.driver, started_at=record.started_at)
        yield from self.read()
        yield from self._ended_programs(now)
        for event, mark in changed(self.mark, now):
            self.mark = mark
            yield event, mark
        if seen.state is State.UNKNOWN:
            yield from self._not_watched(seen.observation.reason or "its state is unknown")
            self._again(_LOOK_S)
        elif up and now.ending is None and OWN not in self.processes.keys:
            self._again(_LOOK_S)

    def _seen(self, record: Record, seen: Observed, *, up: bool) -> Seen:
        found, active = seen.observation, seen.state in ACTIVE
        reports = self._watched.reports_pauses or not active
        return Seen(
            name=self.name,
            driver=record.driver,
            at=wall_clock_s(),
            started_at=record.started_at,
            up=up,
            ending=self._ending(record, seen) if up else None,
            pause=None if reports else seen.state is State.PAUSED,
            pause_reason=found.reason,
            devices=tuple(record.devices),
            programs=tuple(sorted(self.processes.keys - {OWN, _MONITOR})),
        )

    def _ending(self, record: Record, seen: Observed) -> Ending | None:
        """How the instance ended; None while it lives."""
        found = seen.observation
        if record.phase is Phase.STOPPING and record.boot_id == boot_id():
            over = record.process is not None and not alive(record.process)
            return Ending(by=EndedBy.STOP) if over else None
        if seen.state not in ENDED or found.pid is not None:  # a guest that panicked may have its process
            return None
        if self._awaits_status(record, found):
            return None
        at = ended_at(self._context, self.name) if record.boot_id == boot_id() else None
        return Ending(by=found.ended_by or EndedBy.UNKNOWN, reason=found.reason, at=at)

    def _awaits_status(self, record: Record, found: Observation) -> bool:
        """Whether the monitor of an ended process has yet to write down how that ended; it is waited for, but not for ever."""
        known = found.ended_by not in (None, EndedBy.UNKNOWN)
        if known or self._status_final or record.monitor is None or record.boot_id != boot_id():
            return False
        now = time.monotonic()
        self._status_by = self._status_by or now + _STATUS_S
        lives = alive(record.monitor)
        self._status_final = not lives or now >= self._status_by  # but this observation may be from before
        if lives:
            self.processes.follow(_MONITOR, record.monitor)
        self._again(0.0 if self._status_final else self._status_by - now)
        return True

    def _follow(self, record: Record) -> News:
        """Follow the processes and the files that the record has now."""
        if record.process is not None:
            self.processes.follow(OWN, record.process)
        for program, process in self._watched.programs.items():
            self.processes.follow(program, process)
        version = (record.bindings, record.spec, record.instance)
        if version == self._version:
            return
        self._version = version
        try:
            live, loaded = self._context.live(record), self._context.driver(record.driver)
            self._watched = loaded.watched(live) if isinstance(loaded.driver, Watchable) else Watched()
        except HvError as error:
            yield from self._not_watched(f"only its start and end are seen: {error}")
            return
        for program, process in self._watched.programs.items():
            self.processes.follow(program, process)
        for source in self._watched.files:
            key = os.path.relpath(source.path, live.dir)
            if key in self._files:
                continue
            place = 0 if self.mark is None else self.mark.offsets.get(key, 0)
            self._watches(source.path, self.name)
            self._files[key] = _File(key, GrowingFile(source.path, place), source.reader(place == 0))

    def _not_watched(self, reason: str) -> News:
        if reason == self._told:
            return
        self._told = reason
        driver = "unknown" if self.mark is None else self.mark.driver
        yield NotWatched(name=self.name, driver=driver, at=wall_clock_s(), reason=reason), self.mark

    def _ended_programs(self, now: Seen) -> News:
        """Programs that have ended while the instance goes on."""
        mark = self.mark
        if mark is None or now.ending is not None:
            return
        for program in mark.programs:
            if program in now.programs:
                continue
            ended = self._missed.setdefault(program, now.at)
            if now.at - ended < _TOGETHER_S and ended <= now.at:
                self._again(_TOGETHER_S)
                continue
            mark = self.mark = replace(mark, programs=tuple(one for one in mark.programs if one != program))
            yield ProgramEnded(name=self.name, driver=now.driver, at=ended, program=program), mark
        if set(now.programs) - set(mark.programs):  # those of a device that was attached
            self.mark = replace(mark, programs=now.programs)

    def _again(self, wait_s: float) -> None:
        due = time.monotonic() + wait_s
        self.due = due if self.due is None else min(self.due, due)

    def _reset(self) -> None:
        """Forget what belonged to a start that is over."""
        self.processes.close()
        self._files.clear()
        self._missed.clear()
        self._told, self._version, self._watched, self._own_ended = "", (), Watched(), False
        self._status_by, self._status_final = None, False


def _events(one: _File, text: bytes, name: str, mark: Mark | None) -> list[Event]:
    """The events in a line of that file."""
    try:
        return list(one.read(text))
    except Exception as error:  # noqa: BLE001 - of a driver; its other events are still of use
        return [_lost(name, mark, f"the driver cannot read a line, it raised {type(error).__name__}: {error}")]


def _lost(name: str, mark: Mark | None, reason: str) -> EventsLost:
    return EventsLost(name=name, driver="unknown" if mark is None else mark.driver, at=wall_clock_s(), reason=reason)
