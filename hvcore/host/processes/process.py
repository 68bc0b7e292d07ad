"""Processes that are known for certain: who they are, whether they are gone, what they use.

A pid alone proves nothing. `ProcessId` adds the start time and the boot; signals go through a pidfd
that was opened before those were compared; "gone" means that the pidfd is readable. Reading
/proc/PID/stat is not enough to say so: a killed process with a thread in uninterruptible sleep
shows state Z while a write of it is still in flight.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import select
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hvcore.errors import DeadlineError
from hvcore.model.record import ProcessId

__all__ = [
    "Figures",
    "alive",
    "boot_id",
    "ending",
    "exit_code",
    "figures",
    "identify",
    "kill_and_wait",
    "pidfile_lock_holder",
    "processes_holding",
    "processes_in_pid_namespace",
    "verified_pidfd",
    "wait_gone",
    "wait_readable",
]

_PF_EXITING: Final = 0x4
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 1024 * 1024
_LONGEST_WAIT_S: Final = 2_000_000.0  # poll(2) takes milliseconds as an int of 32 bits


@functools.cache
def boot_id() -> str:
    """The kernel's id of this boot: pids and sockets of another boot mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat_fields(pid: int) -> list[bytes] | None:
    """Fields of /proc/PID/stat from ``state`` (3) to ``rss`` (24), then the rest as one; None: no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        data = os.read(fd, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The command name, field 2, may hold spaces and parentheses: it ends at the last one.
    return data[data.rindex(b")") + 2 :].split(None, 22)


def identify(pid: int) -> ProcessId | None:
    """Who ``pid`` is right now, or None when there is no such process."""
    fields = _stat_fields(pid)
    return None if fields is None else ProcessId(pid=pid, start_ticks=int(fields[19]), boot_id=boot_id())


@contextmanager
def verified_pidfd(process: ProcessId) -> Iterator[int | None]:
    """A pidfd of exactly that process, or None when it is gone and its number free or somebody else's."""
    if process.boot_id != boot_id():
        yield None
        return
    try:
        fd = os.pidfd_open(process.pid)
    except OSError as error:
        # ENOENT (EINVAL before Linux 6.15): the number is now that of a thread of some other process.
        if error.errno not in (errno.ESRCH, errno.ENOENT, errno.EINVAL):
            raise
        yield None
        return
    try:
        yield fd if identify(process.pid) == process else None
    finally:
        os.close(fd)


def alive(process: ProcessId) -> bool:
    """True until every thread of the process is gone, even when it was killed long ago."""
    with verified_pidfd(process) as fd:
        return fd is not None and not wait_readable(fd, 0.0)


def wait_readable(fd: int, timeout_s: float) -> bool:
    """Wait until a pidfd says that its process has ended, or any descriptor that there is something to read."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0, round(min(timeout_s, _LONGEST_WAIT_S) * 1000))))


def exit_code(pidfd: int) -> int | None:
    """How a child of ours ended, as `subprocess` has it: its exit code, or minus the signal; None while it lives.

    It is reaped by that. Raises ChildProcessError when somebody else has waited for it, which `subprocess` itself would
    take for an exit code of 0.
    """
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def ending(pid: int) -> bool:
    """Whether every thread of it has gone or is on its way: it gives up its namespaces before it is a zombie.

    PF_EXITING (linux/sched.h) in the flags of /proc/PID/task/TID/stat, the seventh field after the name (proc(5)).
    """
    for thread in _listed(f"/proc/{pid}/task"):
        try:
            stat = Path(f"/proc/{pid}/task/{thread}/stat").read_bytes()
            flags = int(stat.rpartition(b")")[2].split()[6])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if not flags & _PF_EXITING:
            return False
    return True


def wait_gone(process: ProcessId, deadline_s: float) -> bool:
    """Wait until the process is gone, at most ``deadline_s`` seconds; False when it is not."""
    with verified_pidfd(process) as fd:
        return fd is None or wait_readable(fd, deadline_s)


def kill_and_wait(process: ProcessId, *, subject: str, deadline_s: float) -> bool:
    """SIGKILL and wait until it is gone. False when it already was. Raises `DeadlineError` when it does not go."""
    with verified_pidfd(process) as fd:
        if fd is None or wait_readable(fd, 0.0):
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        if not wait_readable(fd, deadline_s):
            raise DeadlineError(
                subject=subject,
                waiting_for=f"end of pid {process.pid} after SIGKILL",
                waited_s=deadline_s,
                todo="it hangs in the kernel (a dead disk?) and may still write; everything it holds stays reserved",
            )
        return True


def pidfile_lock_holder(path: Path) -> int | None:
    """The pid of the process that holds a POSIX write lock on the file, or None.

    QEMU holds one on its pidfile for life (os-posix.c, qemu_create_pidfile). The kernel names the holder in our
    pid namespace, also when /proc shows an emptied process with a write still in flight.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    # struct flock of Linux on 64-bit: l_type, l_whence, padding, l_start, l_len, l_pid
    layout = "hh4xqqi4x"
    try:
        reply = fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return None
    finally:
        os.close(fd)
    kind, _, _, _, pid = struct.unpack(layout, reply)
    return int(pid) if kind != fcntl.F_UNLCK else None


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def processes_holding(path: Path) -> list[ProcessId]:
    """Every process but ourselves with an open descriptor on the file, judged by inode. Costs milliseconds."""
    try:
        wanted = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return []
    key = (wanted.st_dev, wanted.st_ino)
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        process = identify(pid)
        if process is not None and _has_open(pid, key):
            found.append(process)
    return found


def _has_open(pid: int, key: tuple[int, int]) -> bool:
    # By thread: the leader of a killed process may have given up its table while a thread has not.
    for task in _listed(f"/proc/{pid}/task"):
        for fd in _listed(f"/proc/{pid}/task/{task}/fd"):
            try:
                found = os.stat(f"/proc/{pid}/task/{task}/fd/{fd}")
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == key:
                return True
    return False


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM):
            return []
        raise


def processes_in_pid_namespace(inode: int) -> list[ProcessId]:
    """Every process whose pid namespace has that inode number (as in ``/proc/PID/ns/pid``)."""
    wanted = f"pid:[{inode}]"
    found = []
    for pid in _pids():
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != wanted:
                continue
        except OSError:
            continue
        process = identify(pid)
        if process is not None:
            found.append(process)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a process has used: host cpu in seconds, resident memory in MiB, seconds since it began."""

    cpu_seconds: float
    resident_mib: int
    uptime_s: float


def figures(process: ProcessId) -> Figures | None:
    """Live figures of exactly that process, from one read of /proc/PID/stat; None when it is gone or a zombie."""
    fields = _stat_fields(process.pid)
    if fields is None or int(fields[19]) != process.start_ticks or fields[0] in (b"Z", b"X"):
        return None
    if process.boot_id != boot_id():
        return None
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_ticks / _TICKS_PER_S
    return Figures(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_PER_S,
        resident_mib=int(fields[21]) * _PAGE_BYTES // _MIB,
        uptime_s=max(0.0, uptime),
    )
