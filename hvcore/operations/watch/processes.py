"""The processes of instances, whose ends a poll object reports."""

from __future__ import annotations

import os
import select
from collections.abc import Mapping

from hvcore.host.processes.process import alive, open_pidfd
from hvcore.model.record import ProcessId

__all__ = ["OWN", "Ends", "Processes"]

OWN = ""
"""The key of an instance's own process."""


class Ends:
    """Which instance a readable descriptor belongs to: its process has ended."""

    def __init__(self, poll: select.epoll) -> None:
        self._poll = poll
        self._names: dict[int, str] = {}

    @property
    def names(self) -> Mapping[int, str]:
        """The instances, by descriptor."""
        return self._names

    def add(self, fd: int, name: str) -> None:
        """Wait for that descriptor too."""
        self._poll.register(fd, select.EPOLLIN)
        self._names[fd] = name

    def close(self, fd: int) -> None:
        """Close the descriptor."""
        del self._names[fd]
        self._poll.unregister(fd)
        os.close(fd)


class Processes:
    """The processes of one instance that live, by the key `OWN` or the name of a program beside it."""

    def __init__(self, name: str, ends: Ends) -> None:
        self._name, self._ends = name, ends
        self._pidfds: dict[str, tuple[ProcessId, int]] = {}

    @property
    def keys(self) -> frozenset[str]:
        """The keys of those that lived when this was last found out."""
        return frozenset(self._pidfds)

    def follow(self, key: str, process: ProcessId) -> None:
        """Follow that process in place of another of this key. Does nothing if it has ended."""
        known = self._pidfds.get(key)
        if known is not None and known[0] != process:
            self._forget(key)
        fd = open_pidfd(process) if key not in self._pidfds and alive(process) else None
        if fd is not None:
            self._pidfds[key] = (process, fd)
            self._ends.add(fd, self._name)

    def drop_ended(self) -> list[str]:
        """Forget those that have ended, whose descriptors would be readable for ever; their keys."""
        ended = [key for key, (process, _) in self._pidfds.items() if not alive(process)]
        for key in ended:
            self._forget(key)
        return ended

    def close(self) -> None:
        """Forget all."""
        for key in list(self._pidfds):
            self._forget(key)

    def _forget(self, key: str) -> None:
        self._ends.close(self._pidfds.pop(key)[1])
