"""Finds launched processes, also those of other callers: by the status file, the life lock, and marks in the environment.

`hvcore.host.launching.launch` prepares these. Nothing here changes anything.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from hvcore.deadline import Deadline
from hvcore.frozen import dataclass
from hvcore.host.files import read_regular
from hvcore.host.lock import is_held
from hvcore.host.processes.process import alive, entries_of, wait_gone
from hvcore.host.processes.search import exiting, pids, processes_holding, processes_in_pid_namespace
from hvcore.model.record import LIFE_LOCK, STATUS, ProcessId, of_program

__all__ = [
    "Ended",
    "Status",
    "how_ended",
    "instance_mark",
    "is_held_unseen",
    "launch_files",
    "launched_in",
    "life_locks",
    "life_mark",
    "marked_for",
    "marks",
    "members",
    "read_status",
]

_LIFE: Final = "HVCORE_LIFE"
_INSTANCE: Final = "HVCORE_INSTANCE"
_IN_EXEC_S: Final = 0.001
_EXIT_S: Final = 0.5
_BUSY_EXIT_S: Final = 60.0
_LOOK_S: Final = 0.0005
_SEARCH_AFTER_S: Final = 0.005
_TRIES_IN_EXEC: Final = 50
_UNKNOWN: Final = "ended (exit code unknown: the host application ignores SIGCHLD or waits for every child)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended: its exit code, or the number of the signal that killed it; neither if that is unknown."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exited with {self.code}" if self.code is not None else _UNKNOWN
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"was killed by {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The contents of the status file. ``pid`` is the host's number of the confined process."""

    pid: int | None = None
    pid_namespace: int | None = None
    ended: Ended | None = None


def life_mark(found: os.stat_result) -> tuple[str, str]:
    """The environment variable of processes launched with that life lock; others with the open file do not have it."""
    return _LIFE, f"{found.st_dev}:{found.st_ino}"


def instance_mark(directory: Path) -> tuple[str, str]:
    """The environment variable of processes launched for the instance with that directory."""
    return _INSTANCE, str(directory)


def how_ended(code: int) -> Ended:
    """How a process ended, from a return code of `subprocess` or bubblewrap."""
    if code < 0:
        return Ended(signal=-code)
    # bubblewrap, like a shell, reports a signal as 128 + its number.
    return Ended(signal=code - 128) if code > 128 else Ended(code=code)


def read_status(path: Path) -> Status:
    """What bubblewrap has written so far. A missing, torn or foreign file gives an empty status."""
    try:
        lines = read_regular(path, limit=65536).splitlines()
    except OSError:
        return Status()
    facts: dict[str, object] = {}
    for line in lines:
        try:
            facts |= json.loads(line)
        except (ValueError, TypeError):
            continue
    pid, namespace, code = (facts.get(key) for key in ("child-pid", "pid-namespace", "exit-code"))
    return Status(
        pid=pid if isinstance(pid, int) else None,
        pid_namespace=namespace if isinstance(namespace, int) else None,
        ended=how_ended(code) if isinstance(code, int) else None,
    )


def launch_files(directory: Path, program: str = "") -> tuple[Path, Path]:
    """The life lock and the status file in that directory of an instance: its own, or those of a program beside it."""
    return directory / of_program(program, LIFE_LOCK), directory / of_program(program, STATUS)


def members(life: Path, status: Path) -> list[ProcessId]:
    """Every process that was launched with this life lock and status file and is alive, at any stage of its launch.

    Found by the descriptor and the mark during the launch, and by its pid namespace later. A process that the host
    application forked during a launch also has the descriptor, but not the mark.
    """
    found = {process.pid: process for process in processes_holding(life) if _is_marked(process, life)}
    found |= {process.pid: process for process in _in_sandbox(read_status(status))}
    return [process for process in found.values() if alive(process)]


def life_locks(directory: Path) -> list[Path]:
    """The life locks in that directory of an instance, which may go meanwhile: its own, and those of the programs beside it."""
    names = sorted(name for name in entries_of(str(directory)) if name.endswith(f".{LIFE_LOCK}"))
    return [directory / LIFE_LOCK, *(directory / name for name in names)]


def is_held_unseen(life: Path, *, exit_now: Callable[[], Iterable[ProcessId]] = exiting) -> bool:
    """Whether a process that cannot be seen from here holds that life lock.

    The kernel knows the holders of a lock in every PID namespace, /proc only those of one namespace. A process that exits
    holds its locks for a moment after its descriptors are gone from /proc, on a busy node longer. ``exit_now`` gives the
    processes that are exiting.
    """
    deadline, wait_s = Deadline(_EXIT_S), _LOOK_S
    while is_held(life):
        # A search in /proc takes longer than most exits, and longer with each process of the node.
        if wait_s > _SEARCH_AFTER_S and processes_holding(life):
            return False
        if deadline.left() <= 0.0:
            return _is_held_by_none_that_exits(life, exit_now)
        time.sleep(min(wait_s, deadline.left()))
        wait_s *= 2
    return False


def _is_held_by_none_that_exits(life: Path, exit_now: Callable[[], Iterable[ProcessId]]) -> bool:
    deadline = Deadline(_BUSY_EXIT_S)
    for process in exit_now():
        wait_gone(process, deadline.left())
    return is_held(life) and not processes_holding(life)


def _in_sandbox(status: Status) -> list[ProcessId]:
    """The processes in the pid namespace that bubblewrap made, while its first process lives.

    The kernel ends a namespace with its first process. A new namespace, maybe of another instance, then gets its number:
    so the number counts only together with that process.
    """
    if status.pid is None or status.pid_namespace is None or status.ended is not None:
        return []
    wanted = f"pid:[{status.pid_namespace}]"
    try:
        first = os.readlink(f"/proc/{status.pid}/ns/pid")
    except OSError:
        return []
    if first != wanted or os.readlink("/proc/self/ns/pid") == wanted:
        return []
    return processes_in_pid_namespace(status.pid_namespace)


def marked_for(directory: Path, uid_pool: range = range(0)) -> list[int]:
    """Pids of processes launched for the instance with that directory, found by their mark.

    For an instance whose directory is missing, with the files that `members` needs.
    """
    return sorted(pid for pid, path in marks(uid_pool).items() if path == str(directory))


def marks(uid_pool: range = range(0)) -> dict[int, str]:
    """The path of the instance's directory by pid, for every process launched for an instance.

    Only processes of our user and of guests, whose uids are in the pool: other users cannot pretend to be an instance.
    """
    found = ((pid, launched_in(pid)) for pid in pids() if _is_ours(pid, uid_pool))
    return {pid: str(path) for pid, path in found if path is not None}


def launched_in(pid: int) -> Path | None:
    """The directory of the instance that the process was launched for; None if it has no mark that we may read."""
    key = os.fsencode(f"{_INSTANCE}=")
    found = (os.fsdecode(one.removeprefix(key)) for one in _environment(pid) or () if one.startswith(key))
    return next(map(Path, found), None)


def _is_ours(pid: int, uid_pool: range) -> bool:
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    return owner == os.geteuid() or owner in uid_pool


def _is_marked(process: ProcessId, life: Path) -> bool:
    try:
        name, value = life_mark(life.stat(follow_symlinks=False))
    except OSError:
        return False
    # During exec a program has no environment: begin_new_exec() in fs/exec.c closes descriptors, for which its parent
    # waits, before binfmt_elf.c sets env_start. No event reports that.
    tries = _TRIES_IN_EXEC
    while tries and _environment(process.pid) == [] and not wait_gone(process, _IN_EXEC_S):
        tries -= 1
    return os.fsencode(f"{name}={value}") in (_environment(process.pid) or ())


def _environment(pid: int) -> list[bytes] | None:
    """Its environment at exec as ``NAME=VALUE``; None if the process has exited or may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            return [one for one in file.read().split(b"\0") if one]
    except OSError:
        return None
