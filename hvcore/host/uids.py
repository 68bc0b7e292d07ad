"""A uid's one user on the whole node, whichever run directory that belongs to. Only for root, who alone can give uids.

Reservations are known in one run directory only. So a number is taken when nobody on the node has it: no process runs
as it, and no operation is about to start one. The first is asked of the kernel, the second is a lock on a file that is
there for as long as the operation, and that what is launched inherits, for it becomes that user only some time later.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.host.files import private_dir
from hvcore.host.lock import close_in_children, forget_in_children, same_file, try_lock
from hvcore.host.reservations import Reservations

__all__ = ["UidClaims"]

_LOCKS: Final = Path("/run/hvcore-uids")


class UidClaims:
    """The uids that one operation takes for an instance: reserved in the run directory, and locked on the node."""

    def __init__(self, run_dir: Path, owner: str, *, node_wide: bool, locks: Path = _LOCKS) -> None:
        self._root = run_dir / "reservations"
        self._owner = owner
        self._locks = locks if node_wide else None
        self._held: dict[int, Path] = {}

    @property
    def fds(self) -> tuple[int, ...]:
        """What the process that will have the uids has to inherit."""
        return tuple(self._held)

    def take_one(self, kind: str, pool: range) -> int | None:
        """One number of the pool that nobody on the node has, from now on the owner's; None when there is none.

        Raises `NodeError` when the node cannot be asked.
        """
        reserved = Reservations(self._root / kind)
        first = _free_one(reserved, pool)
        for number in chain(pool[first:], pool[:first]):
            if reserved.taken(str(number)) or not self._lock(number):
                continue
            if reserved.take(str(number), self._owner) is None:
                return number
        return None

    def close(self) -> None:
        """The operation is over: what it has launched runs as those uids now, and is seen by that."""
        while self._held:
            fd, path = self._held.popitem()
            with suppress(OSError):  # one that stays is in nobody's way
                path.unlink()
            forget_in_children(fd)
            os.close(fd)

    def _lock(self, number: int) -> bool:
        """Whether nobody else on the node has the number or is about to have it."""
        if self._locks is None:
            return True
        if _has_processes(number):
            return False
        try:
            path = private_dir(self._locks) / str(number)
        except NodeError as error:
            todo = f"make {str(self._locks)!r} a directory that only root can write to"
            raise NodeError(f"{self._owner}: its uid cannot be locked on this node; {todo}") from error
        # For reading only: what is launched inherits it, and is not to fill the node's memory through it.
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        # Once more with the lock in hand: who had it may have become that user, and given up lock and file, meanwhile.
        if not try_lock(fd) or not same_file(fd, path) or _has_processes(number):
            os.close(fd)
            return False
        close_in_children(fd)
        self._held[fd] = path
        return True


def _free_one(reserved: Reservations, pool: range) -> int:
    """Where in the pool there is a number that nobody has here, with a taken one, or nothing, right before it.

    Found by a few looks however many are taken: ever farther ahead to one that is free, then by halves back towards
    one that is taken. When all that were looked at are taken it is the beginning.
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
    # getpriority(2): ESRCH when no process has that uid. One call, where looking through /proc costs milliseconds.
    try:
        os.getpriority(os.PRIO_USER, uid)
    except ProcessLookupError:
        return False
    return True
