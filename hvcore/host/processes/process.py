"""The identity of processes, whether they are gone, and what they use.

A pid alone proves nothing. `ProcessId` adds the start time and the boot. Signals go through a pidfd that was opened before
those were compared. "Gone" means that the pidfd is readable. State Z in /proc/PID/stat does not mean that: a killed process
with a thread in uninterruptible sleep has it while a write is still in flight.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.errors import DeadlineError
from hvcore.frozen import dataclass
from hvcore.host.hurry import interrupting
from hvcore.host.record_locks import writing_process
from hvcore.model.record import ProcessId

__all__ = [
    "Figures",
    "alive",
    "boot_id",
    "ending",
    "entries_of",
    "exit_code",
    "figures",
    "first_readable",
    "identify",
    "in_words",
    "kill_and_wait",
    "open_pidfd",
    "parent_of",
    "pidfile_lock_holder",
    "verified_pidfd",
    "wait_gone",
    "wait_readable",
    "waited_s",
]

_PF_EXITING: Final = 0x4
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_MIB: Final = 1024 * 1024
_LONGEST_WAIT_S: Final = 2_000_000.0  # poll(2) takes milliseconds as an int of 32 bits


@functools.cache
def boot_id() -> str:
    """The kernel's id of this boot. Pids and sockets of another boot are not valid."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat_fields(pid: int) -> list[bytes] | None:
    """Fields of /proc/PID/stat from ``state`` (3) to ``rss`` (24), then the rest as one; None without the process."""
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
    """The process with that pid now; None without one."""
    fields = _stat_fields(pid)
    return None if fields is None else ProcessId(pid=pid, start_ticks=int(fields[19]), boot_id=boot_id())


def parent_of(pid: int) -> int:
    """The pid of its parent; 0 without one that can be seen, and for a process that is gone."""
    fields = _stat_fields(pid)
    return 0 if fields is None else int(fields[1])


def in_words(pid: int) -> str:
    """``pid N (command)``, for people. Raises OSError if there is no such process."""
    return f"pid {pid} ({Path(f'/proc/{pid}/comm').read_text().strip()})"


@contextmanager
def verified_pidfd(process: ProcessId) -> Iterator[int | None]:
    """A pidfd of exactly that process; None if it is gone, also if another process has its pid now."""
    fd = open_pidfd(process)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def open_pidfd(process: ProcessId) -> int | None:
    """Like `verified_pidfd`, for a caller that keeps the descriptor, and closes it."""
    if process.boot_id != boot_id():
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except OSError as error:
        # ENOENT (EINVAL before Linux 6.15): the number is now that of a thread of another process.
        if error.errno not in (errno.ESRCH, errno.ENOENT, errno.EINVAL):
            raise
        return None
    try:
        same = identify(process.pid) == process
    except BaseException:
        os.close(fd)
        raise
    if same:
        return fd
    os.close(fd)
    return None


def alive(process: ProcessId) -> bool:
    """True until every thread of the process is gone, even after it was killed."""
    return not wait_gone(process, 0.0)


def wait_readable(fd: int, timeout_s: float) -> bool:
    """Wait until any descriptor is readable: for a pidfd, until its process has exited. False after ``timeout_s``.

    Also False once if a stop by force hurries the polite stop that waits here.
    """
    return bool(first_readable((fd,), timeout_s))


def first_readable(fds: Collection[int], timeout_s: float) -> frozenset[int]:
    """Wait until one of these descriptors is readable, and return all that are: an answer on a socket, the end of a child.

    Empty after ``timeout_s``, and once if a stop by force hurries the polite stop that waits here.
    """
    hurried, wanted = interrupting() if timeout_s > 0 else None, tuple(fds)
    if hurried is None or hurried.fd is None:
        return frozenset(_readable(wanted, timeout_s))
    news = hurried.newly_hurried()
    found = _readable(wanted if news or hurried.hurried else (*wanted, hurried.fd), 0.0 if news else timeout_s)
    hurried.newly_hurried()
    return frozenset(found.intersection(wanted))


def _readable(fds: tuple[int, ...], timeout_s: float) -> set[int]:
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return {fd for fd, _ in poll.poll(max(0, round(min(timeout_s, _LONGEST_WAIT_S) * 1000)))}


def exit_code(pidfd: int) -> int | None:
    """Reap a child of ours: its exit code, or minus the signal as in `subprocess`; None while it lives.

    Raises ChildProcessError if it was reaped elsewhere, for which `subprocess` would return 0.
    """
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def ending(pid: int) -> bool:
    """Whether every thread has exited or is exiting, which comes before the loss of namespaces and the zombie.

    PF_EXITING (linux/sched.h) in the flags of /proc/PID/task/TID/stat, the seventh field after the name (proc(5)).
    """
    for thread in entries_of(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):
            stat = Path(f"/proc/{pid}/task/{thread}/stat").read_bytes()
            if not int(stat.rpartition(b")")[2].split()[6]) & _PF_EXITING:
                return False
    return True


def wait_gone(process: ProcessId, deadline_s: float) -> bool:
    """Wait until the process is gone; False after ``deadline_s`` seconds."""
    with verified_pidfd(process) as fd:
        return fd is None or wait_readable(fd, deadline_s)


def kill_and_wait(process: ProcessId, *, subject: str, deadline_s: float) -> bool:
    """SIGKILL the process and wait until it is gone. False if it already was. Raises `DeadlineError`."""
    with verified_pidfd(process) as fd:
        if fd is None or wait_readable(fd, 0.0):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        if not _readable((fd,), deadline_s):
            raise DeadlineError(
                subject=subject,
                waiting_for=f"end of pid {process.pid} after SIGKILL",
                waited_s=deadline_s,
                todo="it hangs in the kernel (a dead disk?) and may still write; everything it holds stays reserved",
            )
        return True


def pidfile_lock_holder(path: Path) -> int | None:
    """The pid of the process that holds a POSIX write lock on the file; None without one.

    QEMU holds one on its pidfile while it lives (os-posix.c, qemu_create_pidfile).
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return writing_process(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def entries_of(path: str) -> list[str]:
    """The names in a directory of /proc; none if its process has exited, or may not be looked into."""
    try:
        return os.listdir(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM):
            return []
        raise


def waited_s(task: str) -> float:
    """Seconds that a task in /proc has waited for a processor; 0 if it has exited, or if the kernel does not count."""
    try:
        with open(f"/proc/{task}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except TimeoutError:  # of the caller's time limit, which can be over at any line
        raise
    except (OSError, IndexError, ValueError):  # a kernel without CONFIG_SCHED_INFO
        return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a process uses: host cpu in seconds, resident memory in MiB, seconds since its start."""

    cpu_seconds: float
    resident_mib: int
    uptime_s: float


def figures(process: ProcessId) -> Figures | None:
    """Figures of exactly that process, from one read of /proc/PID/stat; None if it is gone or a zombie."""
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
