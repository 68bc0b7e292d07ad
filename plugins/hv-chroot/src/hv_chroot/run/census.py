"""The processes of an instance, by its pid namespace or its root directory, and what they have used together.

Every process that began in the namespace descends from bubblewrap's init, because an orphan becomes the init's child.
So only a few small files are read, and none of the node's other processes. A process that entered from outside, a
console or a stop script, is not a descendant and not part of the figures.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import hvcore.plugin as hv
from hvcore.plugin import boot_id, dataclass, rooted

__all__ = ["Census", "census", "is_ending", "members", "namespace_of", "plain_census"]

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 1024 * 1024
_FIELDS: Final = 22
_PF_EXITING: Final = 4  # linux/sched.h


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Figures of a whole instance: host CPU in seconds, ended processes included; resident MiB, rounded up.

    ``processes`` is without the init. Pages that processes share are counted for each of them.
    """

    cpu_seconds: float
    resident_mib: int
    processes: int
    uptime_s: float


def namespace_of(pid: int) -> int | None:
    """The inode number of the process's pid namespace; None when it does not exist."""
    try:
        return int(os.readlink(f"/proc/{pid}/ns/pid").removeprefix("pid:[").removesuffix("]"))
    except OSError:
        return None


def is_ending(process: hv.ProcessId) -> bool:
    """True when the process has ended or is exiting, and runs no code any more."""
    fields = _stat(process.pid)
    return fields is None or int(fields[19]) != process.start_ticks or bool(int(fields[6]) & _PF_EXITING)


def census(init: hv.ProcessId) -> Census | None:
    """The figures of the processes under that init now. None when the init has ended, and so all others.

    Fields as in proc_pid_stat(5); /proc/PID/task/TID/children needs CONFIG_PROC_CHILDREN, which distributions set.
    """
    root = _stat(init.pid)
    if root is None or int(root[19]) != init.start_ticks or init.boot_id != boot_id() or root[0] in b"ZX":
        return None
    found = [fields for _, fields in _descent(init.pid, root)]
    return _summed(found, started=init.start_ticks, processes=len(found) - 1)


def members(init: hv.ProcessId) -> list[hv.ProcessId]:
    """The init and its descendants now: all processes that began in its pid namespace."""
    root = _stat(init.pid)
    if root is None or int(root[19]) != init.start_ticks:
        return []
    found = _descent(init.pid, root)
    return [hv.ProcessId(pid=pid, start_ticks=int(fields[19]), boot_id=init.boot_id) for pid, fields in found]


def _descent(pid: int, root: list[bytes]) -> list[tuple[int, list[bytes]]]:
    found = [(pid, root)]
    for parent, fields in found:  # grows while it is walked
        for child in _children(parent, threads=int(fields[17])):
            stat = _stat(child)
            if stat is not None:
                found.append((child, stat))
    return found


def plain_census(root: Path) -> Census | None:
    """The figures of the processes with that root; None when it has no process."""
    stats = (_stat(process.pid) for process in rooted(root))
    found = [fields for fields in stats if fields is not None and fields[0] not in b"ZX"]
    if not found:
        return None
    return _summed(found, started=min(int(fields[19]) for fields in found), processes=len(found))


def _summed(found: list[list[bytes]], *, started: int, processes: int) -> Census:
    # utime and stime, and those of children that have ended and were waited for
    ticks = sum(sum(map(int, fields[11:15])) for fields in found)
    pages = sum(int(fields[21]) for fields in found)
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / _TICKS_PER_S
    return Census(
        cpu_seconds=ticks / _TICKS_PER_S,
        resident_mib=-(-pages * _PAGE_BYTES // _MIB),
        processes=processes,
        uptime_s=max(0.0, age),
    )


def _stat(pid: int) -> list[bytes] | None:
    """Fields of /proc/PID/stat from ``state`` to ``rss``, then the rest as one; None when the process does not exist."""
    data = _read(f"/proc/{pid}/stat")
    # The command's name is in parentheses and may contain some: it ends at the last one.
    return data[data.rindex(b")") + 2 :].split(None, _FIELDS) if data else None


def _children(pid: int, *, threads: int) -> list[int]:
    tasks = [str(pid)]
    if threads > 1:
        try:
            tasks = os.listdir(f"/proc/{pid}/task")
        except OSError:
            return []
    return [int(child) for task in tasks for child in _read(f"/proc/{pid}/task/{task}/children").split()]


def _read(path: str) -> bytes:
    """The contents of the file; empty when its process has ended."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""
    finally:
        os.close(fd)
