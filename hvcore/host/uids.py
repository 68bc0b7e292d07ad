"""Uids with one user on the whole node, not only in one run directory. Only root can give uids.

A uid of the pool is free if no process runs as it and no operation is about to start one. The kernel answers the first.
For the second each operation locks a file, which the launched process inherits: it changes its uid only later.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.files import private_dir
from hvcore.host.lock import close_in_children, close_lock, has_lock_here, same_file, try_lock
from hvcore.host.reservations import KeptReservations, Reservations

__all__ = ["KeptUids", "UidClaims", "unused_uids"]

_LOCKS: Final = Path("/run/hvcore-uids")


class UidClaims:
    """The uids that one operation takes for an instance: reserved in the run directory, and locked on the node."""

    def __init__(
        self, run_dir: Path, owner: str, *, node_wide: bool, locks: Path = _LOCKS, between: KeptUids | None = None
    ) -> None:
        self._root = run_dir / "reservations"
        self._owner = owner
        self._between = between
        self._locks = locks if node_wide else None
        self._held: dict[int, Path] = {}

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that the process with the uids has to inherit."""
        return tuple(self._held)

    def take_one(self, kind: str, pool: range) -> int | None:
        """Reserve one number of the pool that is free on the node; None if all are in use.

        In a reboot, the number that the owner had before, if it is in the pool.
        Raises `NodeError` if numbers cannot be locked on this node.
        """
        reserved = Reservations(self._root / kind)
        if self._between is not None:
            for number, lock in self._between.taken_over(kind, self._owner, pool):
                reserved.take(str(number), self._owner)
                self._held |= lock
                return number
        first = _free_index(reserved, pool)
        for number in chain(pool[first:], pool[:first]):
            if reserved.taken(str(number)) or not self._lock(number):
                continue
            if reserved.take(str(number), self._owner) is None:
                return number
        return None

    def close(self) -> None:
        """Unlock at the end of the operation: the launched processes run as the uids now, and the kernel shows that."""
        _unlock(self._held)

    def _lock(self, number: int) -> bool:
        if self._locks is None:
            return True
        if _has_processes(number):
            return False
        lock = _locked(number, self._locks, self._owner)
        self._held |= lock
        # Again, with the lock held: its last holder may meanwhile have changed to that uid and removed the file.
        if lock and _has_processes(number):
            for fd in lock:
                close_lock(fd)
                del self._held[fd]
            return False
        return bool(lock)


class KeptUids:
    """The locks on the uids of an instance from before the stop of a reboot until its start has taken them over."""

    def __init__(self, reserved: KeptReservations, *, node_wide: bool, locks: Path = _LOCKS) -> None:
        self._reserved = reserved
        self._locks = locks if node_wide else None
        self._held: dict[tuple[str, int], dict[int, Path]] = {}

    def hold(self, kinds: Iterable[str]) -> None:
        """Lock the reserved numbers of these kinds, which processes of the instance still use."""
        if self._locks is not None:
            for kind in kinds:
                for key in filter(str.isdecimal, self._reserved.of_kind(kind)):
                    self._held[kind, int(key)] = _locked(int(key), self._locks, kind)

    def taken_over(self, kind: str, owner: str, pool: range) -> Iterator[tuple[int, dict[int, Path]]]:
        """Each number of the pool that the owner had before the stop, with its lock. The caller takes over the first."""
        for key in self._reserved.kept_for(kind, owner):
            if key.isdecimal() and int(key) in pool:
                yield int(key), self._held.pop((kind, int(key)), {})

    def close(self) -> None:
        """Give up what no start has taken over."""
        while self._held:
            _unlock(self._held.popitem()[1])


@contextmanager
def unused_uids(uids: Iterable[int], *, node_wide: bool, locks: Path = _LOCKS) -> Iterator[frozenset[int]]:
    """Those of the uids that no process of the node runs as or is about to. In the block no operation takes them.

    A uid that this process has locked is not about to be taken by another. Without ``node_wide`` no uid is used.
    """
    held: dict[int, Path] = {}
    unused = set()
    try:
        for uid in uids:
            if node_wide and not has_lock_here(locks / str(uid)):
                with suppress(NodeError, OSError):  # a node without room has no operation that is about to take it
                    lock = _locked(uid, locks, str(uid))
                    held |= lock
                    if not lock:
                        continue
            if not node_wide or not _has_processes(uid):
                unused.add(uid)
        yield frozenset(unused)
    finally:
        _unlock(held)


def _locked(number: int, locks: Path, owner: str) -> dict[int, Path]:
    """The descriptor that holds the lock on that uid, and its file; empty when another operation has the lock."""
    try:
        path = private_dir(locks) / str(number)
    except NodeError as error:
        todo = f"make {str(locks)!r} a directory that only root can write to"
        raise NodeError(f"{owner}: its uid cannot be locked on this node; {todo}") from error
    # For reading only: the launched process inherits it, and must not be able to fill the node's memory through it.
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if not try_lock(fd) or not same_file(fd, path):
        os.close(fd)
        return {}
    close_in_children(fd)
    return {fd: path}


def _unlock(held: dict[int, Path]) -> None:
    while held:
        fd, path = held.popitem()
        with suppress(OSError):  # a file that stays is harmless
            path.unlink()
        close_lock(fd)


def _free_index(reserved: Reservations, pool: range) -> int:
    """The index of a number that is not reserved here, the one before it reserved; 0 if none was found.

    Few lookups, however many are reserved: twice as far each time until one is free, then by halves back.
    """
    taken, free = -1, 0
    while free < len(pool) and reserved.taken(str(pool[free])):
        taken, free = free, 2 * free + 1
    if free >= len(pool):
        return 0
    while free - taken > 1:
        middle = (taken + free) // 2
        if reserved.taken(str(pool[middle])):
            taken = middle
        else:
            free = middle
    return free


def _has_processes(uid: int) -> bool:
    # getpriority(2): ESRCH if no process has that uid. One call, where a search of /proc takes milliseconds.
    try:
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    return True
