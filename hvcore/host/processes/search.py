"""Processes found in /proc: all of them, or those with an open file, in a PID namespace, with a root directory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hvcore.host.processes.process import ending, entries_of, identify
from hvcore.model.record import ProcessId

__all__ = ["exiting", "pids", "processes_holding", "processes_in_pid_namespace", "rooted"]


def pids() -> list[int]:
    """Every process that can be seen from here."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def exiting() -> list[ProcessId]:
    """Every process that has exited or is exiting: one that exits has no descriptors in /proc, and its locks for a while."""
    found = (identify(pid) for pid in pids() if ending(pid))
    return [process for process in found if process is not None]


def processes_holding(path: Path) -> list[ProcessId]:
    """Every other process with an open descriptor of the file, by inode. Takes milliseconds."""
    try:
        wanted = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return []
    key = (wanted.st_dev, wanted.st_ino)
    found = (identify(pid) for pid in pids() if pid != os.getpid())
    return [process for process in found if process is not None and _has_open(process.pid, key)]


def _has_open(pid: int, key: tuple[int, int]) -> bool:
    # By thread: the leader of a killed process may have closed its descriptors while a thread has not.
    for task in entries_of(f"/proc/{pid}/task"):
        for fd in entries_of(f"/proc/{pid}/task/{task}/fd"):
            try:
                found = os.stat(f"/proc/{pid}/task/{task}/fd/{fd}")
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == key:
                return True
    return False


def processes_in_pid_namespace(inode: int) -> list[ProcessId]:
    """Every process whose pid namespace has that inode number (as in ``/proc/PID/ns/pid``)."""
    found = []
    for pid in pids():
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == f"pid:[{inode}]":
                found.append(identify(pid))
    return [process for process in found if process is not None]


def rooted(root: Path) -> list[ProcessId]:
    """Every process that has ``root``, or a directory below it, as its own root.

    By path, or by the directories above its root: of a process in another mount namespace, a caller in a chroot sees a
    path that begins outside of the chroot.
    """
    top = os.path.realpath(root)
    below = f"{top}/"
    wanted = _place(top, None)
    found = []
    for pid in pids():
        try:
            place = os.readlink(f"/proc/{pid}/root")
        except OSError:
            continue
        if place != "/" and (place == top or place.startswith(below) or (wanted and _is_below(pid, wanted))):
            found.append(identify(pid))
    return [process for process in found if process is not None]


_Place = tuple[tuple[int, int], tuple[int, int]]  # device and inode of a directory, and of the directory above


def _place(name: str, within: int | None) -> _Place | None:
    try:
        here, above = os.stat(name, dir_fd=within), os.stat(f"{name}/..", dir_fd=within)
    except OSError:
        return None
    return (here.st_dev, here.st_ino), (above.st_dev, above.st_ino)


def _is_below(pid: int, wanted: _Place) -> bool:
    # Only a directory of the instance is at both: a bind mount shows the same directory below another one.
    name = "."
    try:
        fd = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        while (place := _place(name, fd)) is not None and place != wanted and place[0] != place[1]:
            name += "/.."
    finally:
        os.close(fd)
    return place == wanted
