"""Finding again what was launched, whoever launched it: by the status file, the life lock, and marks in the environment.

`hvcore.host.launching.launch` arranges them. Nothing here changes anything.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hvcore.host.files import read_regular
from hvcore.host.processes.process import alive, processes_holding, processes_in_pid_namespace, wait_gone
from hvcore.model.record import ProcessId

__all__ = [
    "Ended",
    "Status",
    "how_ended",
    "instance_mark",
    "launched_in",
    "life_mark",
    "marked_for",
    "marks",
    "members",
    "read_status",
]

_LIFE: Final = "HVCORE_LIFE"
_INSTANCE: Final = "HVCORE_INSTANCE"
_IN_EXEC_S: Final = 0.001
_TRIES_IN_EXEC: Final = 50
_UNTOLD: Final = "ended (how, the host application took from us: it ignores SIGCHLD or waits for every child)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended: an exit code, or the number of the signal that killed it; neither when nobody could tell us."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exited with {self.code}" if self.code is not None else _UNTOLD
        try:
            name = signal.Signals(self.signal).name
        except ValueError:
            name = f"signal {self.signal}"
        return f"was killed by {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What the status file says. ``pid`` is the confined process as the host numbers it."""

    pid: int | None = None
    pid_namespace: int | None = None
    ended: Ended | None = None


def life_mark(found: os.stat_result) -> tuple[str, str]:
    """The environment variable of what is launched with that life lock; a process that merely has its file open has not."""
    return _LIFE, f"{found.st_dev}:{found.st_ino}"


def instance_mark(directory: Path) -> tuple[str, str]:
    """The environment variable of what is launched for the instance with that directory."""
    return _INSTANCE, str(directory)


def how_ended(code: int) -> Ended:
    """How a process ended, by its return code as `subprocess` or bubblewrap has it."""
    if code < 0:
        return Ended(signal=-code)
    # bubblewrap, like a shell, passes on a death by signal as 128 + its number.
    return Ended(signal=code - 128) if code > 128 else Ended(code=code)


def read_status(path: Path) -> Status:
    """What bubblewrap wrote so far. A missing, torn or foreign file reads as nothing known."""
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


def members(life: Path, status: Path) -> list[ProcessId]:
    """Every process that was launched with this life lock and status file and is not gone, however far it came.

    Found by the descriptor and the mark while it comes up, and by its pid namespace after that. A process
    that a host application forked in the middle of a start holds the descriptor too, without the mark: it is not ours.
    """
    found = {process.pid: process for process in processes_holding(life) if _is_marked(process, life)}
    found |= {process.pid: process for process in _in_sandbox(read_status(status))}
    return [process for process in found.values() if alive(process)]


def _in_sandbox(status: Status) -> list[ProcessId]:
    """The processes in the pid namespace that bubblewrap made, as long as the first of them lives.

    The kernel ends a namespace with its first process and gives the number to the next one that is made, which
    may be another instance's: so the number counts only together with that process.
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
    """Pids of processes that were launched for the instance with that directory, found by their mark.

    For when the directory is gone, and with it everything that `members` goes by.
    """
    return sorted(pid for pid, path in marks(uid_pool).items() if path == str(directory))


def marks(uid_pool: range = range(0)) -> dict[int, str]:
    """Every process that was launched for an instance, by pid, with the path of that instance's directory.

    Only our own user's and those of guests, whose uids are in the pool, are looked at: nobody else can put himself here.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    found = ((pid, _instance(pid)) for pid in pids if _is_ours(pid, uid_pool))
    return {pid: path for pid, path in found if path is not None}


def launched_in(pid: int) -> Path | None:
    """The directory of the instance that the process was launched for; None when there is none that we may see."""
    found = _instance(pid)
    return None if found is None else Path(found)


def _instance(pid: int) -> str | None:
    key = os.fsencode(f"{_INSTANCE}=")
    return next((os.fsdecode(one.removeprefix(key)) for one in _environment(pid) or () if one.startswith(key)), None)


def _is_ours(pid: int, uid_pool: range) -> bool:
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    return owner == os.geteuid() or owner in uid_pool


def _is_marked(process: ProcessId, life: Path) -> bool:
    try:
        there = life.stat(follow_symlinks=False)
    except OSError:
        return False
    # In the middle of exec a program has no environment yet (fs/exec.c, begin_new_exec(): descriptors are closed, which
    # is what its parent waits for, before binfmt_elf.c sets env_start). No event tells when it has.
    tries = _TRIES_IN_EXEC
    while tries and _environment(process.pid) == [] and not wait_gone(process, _IN_EXEC_S):
        tries -= 1
    return _has_mark(process.pid, life_mark(there))


def _has_mark(pid: int, mark: tuple[str, str]) -> bool:
    return os.fsencode("=".join(mark)) in (_environment(pid) or ())


def _environment(pid: int) -> list[bytes] | None:
    """``NAME=VALUE`` as it was executed with; None when it has ended, or is not ours to look at."""
    try:
        # Not by pathlib, which takes twice as long: before a start, every process of the node is looked at.
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    data = b""
    try:
        while piece := os.read(fd, 65536):
            data += piece
    except OSError:
        return None
    finally:
        os.close(fd)
    return [one for one in data.split(b"\0") if one]
