"""Watching the instances of a node: their events, as they happen and from a place on, in one thread without a daemon.

The kernel reports each change: inotify(7) those of records and of the files that programs write their events to, pidfds the
ends of processes. Everything that is seen goes through a queue, so that a bookmark is exact.
"""

from __future__ import annotations

import math
import os
import select
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from hvcore.deadline import wall_clock_s
from hvcore.model.events.bookmark import Bookmark
from hvcore.model.events.events import Event
from hvcore.model.events.news import UNSEEN, gone
from hvcore.model.names import name_problem
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed_all
from hvcore.operations.watch.places import EVERY, Places
from hvcore.operations.watch.processes import Ends, Processes
from hvcore.operations.watch.queue import EventQueue
from hvcore.operations.watch.watched_instance import Follower, News

__all__ = ["Watch"]

_ENOUGH: Final = 1000  # events that wait for the caller, before more are read
_MOST_READINGS: Final = 256  # of the past of one instance, which a guest may write faster than it is read
_NEVER: Final = math.inf


class Watch:
    """An iterator of events of the node's instances, which waits for the next one. Made by `Node.watch`.

    A context manager that closes. For one thread; `close` may be called by any.
    """

    def __init__(self, context: Context, names: Iterable[str] | None, since: float | Bookmark | None) -> None:
        self._context = context
        given = None if names is None else frozenset(names)
        for name in given or ():
            context.store.dir(name)  # refuses what cannot be a name
        self._wanted: Callable[[str], bool] = _can_be_name if given is None else given.__contains__
        self._queue = EventQueue(dict(since.marks) if isinstance(since, Bookmark) else {})
        self._followers: dict[str, Follower] = {}
        self._dirty: dict[str, bool] = {}  # names in order; whether to look at the instance, and not only at its files
        self._old: dict[str, float] = {}  # instances whose past is being read, and the time from which it counts
        self._closed, self._taking = False, threading.Lock()
        with ExitStack() as undo:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._wake)
            self._poll = undo.enter_context(select.epoll())
            self._poll.register(self._wake, select.EPOLLIN)
            self._places = Places(context.store.run_dir, self._poll)
            undo.callback(self._places.close)
            self._ends = Ends(self._poll)
            undo.callback(self._forget_processes)
            self._begin(since)
            self._undo = undo.pop_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        found = self.take()
        if found is None:
            raise StopIteration
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def bookmark(self) -> Bookmark:
        """The place after the last event that was returned: ``Node.watch(since=...)`` continues there."""
        return Bookmark(marks=dict(self._queue.marks))

    def take(self, deadline_s: float | None = None) -> Event | None:
        """The next event; None without one within ``deadline_s`` seconds, and after `close`. Default: wait for ever."""
        end = _NEVER if deadline_s is None else time.monotonic() + deadline_s
        with self._taking:
            while not self._closed:
                event = self._queue.take()
                if event is not None:
                    return event
                left_s = end - time.monotonic()
                if self._turn(max(0.0, left_s)) and left_s <= 0.0:
                    return None
            self._undo.close()
        return None

    def close(self) -> None:
        """End the watch, also one that waits in another thread. Harmless when it has ended."""
        if self._closed:
            return
        self._closed = True
        if self._taking.acquire(blocking=False):
            self._undo.close()
            self._taking.release()
        else:
            os.eventfd_write(self._wake, 1)

    def _begin(self, since: float | Bookmark | None) -> None:
        """Follow what is there. Without a place to begin at, all of that is known."""
        names = [name for name in self._context.store.names() if self._wanted(name)]
        now = wall_clock_s()
        for name in sorted(filter(self._wanted, set(self._queue.marks).difference(names))):
            events = gone(name, self._queue.marks[name], UNSEEN, now)
            self._queue.extend(name, [*((event, None) for event in events), (None, None)])
        if not isinstance(since, Bookmark):
            self._old = dict.fromkeys(names, _NEVER if since is None else since)
        for name in names:
            self._places.follow(name)  # before the look, so that no change is missed
        for name, seen in zip(names, observed_all(self._context, names), strict=True):
            self._take_in(name, self._follower(name).look(seen))
        self._queue.pass_silent()
        readings = _MOST_READINGS * len(names) if since is None else 0
        while self._old and readings > 0:
            readings -= 1
            self._read_on()
            self._queue.pass_silent()
        self._old = {name: old for name, old in self._old.items() if old != _NEVER}

    def _follower(self, name: str) -> Follower:
        if name not in self._followers:
            self._followers[name] = Follower(
                self._context,
                name,
                self._queue.marks.get(name),
                processes=Processes(name, self._ends),
                watches=self._places.follow_file,
            )
        return self._followers[name]

    def _take_in(self, name: str, news: News) -> None:
        """Queue what is new of an instance."""
        old, follower = self._old.get(name, -_NEVER), self._followers[name]
        counts = ((event if event is not None and event.at >= old else None, mark) for event, mark in news)
        self._queue.extend(name, counts)
        if follower.more:
            self._dirty[name] = False
        else:
            self._old.pop(name, None)
        if follower.finished:
            follower.processes.close()
            del self._followers[name]
            self._old.pop(name, None)

    def _forget_processes(self) -> None:
        for follower in self._followers.values():
            follower.processes.close()

    def _read_on(self) -> None:
        """Look at instances that may have changed, until enough events wait."""
        now = time.monotonic()
        for name, follower in self._followers.items():
            if follower.due is not None and follower.due <= now:
                self._dirty[name] = True
        while self._dirty and len(self._queue) < _ENOUGH:
            name = next(iter(self._dirty))
            looks = self._dirty.pop(name)
            if looks:
                self._places.follow(name)
            follower = self._follower(name)
            self._take_in(name, follower.look() if looks else follower.read())

    def _every(self, *, looks: bool) -> list[str]:
        return [*self._followers, *(self._context.store.names() if looks else ())]

    def _turn(self, wait_s: float) -> bool:
        """Read what has changed; if that is nothing, wait for a change. Whether there is nothing to return now."""
        self._read_on()
        if self._queue:
            return False
        dues = [follower.due - time.monotonic() for follower in self._followers.values() if follower.due is not None]
        quiet_s = self._places.quiet_left_s()
        wait_s = min(wait_s, *dues, _NEVER if quiet_s is None else quiet_s)
        ready = self._poll.poll(None if wait_s == _NEVER else max(0.0, wait_s))
        for name, looks in self._places.changed({fd for fd, _ in ready}):
            for one in self._every(looks=looks) if name == EVERY else (name,):
                if self._wanted(one):
                    self._dirty[one] = looks or self._dirty.get(one, False)
        for fd, _ in ready:
            if fd in self._ends.names:
                self._dirty[self._ends.names[fd]] = True
        return not self._dirty


def _can_be_name(name: str) -> bool:
    return name_problem(name) is None
