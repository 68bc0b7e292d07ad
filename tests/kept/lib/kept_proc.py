"""What /proc and the kernel say about processes, mounts and locks, read by the tests themselves."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FLOCK: Final = "hh4xqqi4x"  # struct flock of Linux on 64-bit: l_type, l_whence, padding, l_start, l_len, l_pid


def status(pid: int, thread: int | None = None) -> dict[str, str]:
    """The fields of /proc/PID/status, or of one thread."""
    place = f"/proc/{pid}/status" if thread is None else f"/proc/{pid}/task/{thread}/status"
    lines = Path(place).read_text(encoding="utf-8", errors="replace").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def threads(pid: int) -> list[dict[str, str]]:
    """The status of each thread that did not end while we looked."""
    found = []
    for name in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(status(pid, int(name)))
    return found


def namespaces(pid: int | str = "self") -> dict[str, str]:
    """Each kind of namespace and which one the process is in."""
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds}


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor of the process is."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            found[int(name)] = "a name of more than 4096 bytes"
    return found


def mounts(pid: int | str = "self") -> list[tuple[str, str, str]]:
    """Mount point, options and type of each mount that the process sees."""
    rows = [line.split(" ") for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return [(row[4], row[5], row[row.index("-") + 1]) for row in rows]


def pids() -> Iterator[int]:
    """Every process but ourselves."""
    return (int(name) for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid())


def running(uids: range) -> dict[int, str]:
    """Processes with a real uid of these, and their names; those that have ended and wait for their parent do not count."""
    found = {}
    for pid in pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if os.stat(f"/proc/{pid}").st_uid in uids and (said := status(pid))["State"][0] not in "ZX":
                found[pid] = said["Name"]
    return found


def using(path: str) -> list[int]:
    """Processes that have that file, or one below it, open."""
    found = []
    for pid in pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if any(target == path or target.startswith(f"{path}/") for target in descriptors(pid).values()):
                found.append(pid)
    return found


def rooted(path: str) -> list[int]:
    """Processes whose root is that directory or below it; in a chroot, the path may begin outside of the chroot."""
    found = []
    for pid in pids():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if f"{path}/" in f"{os.readlink(f'/proc/{pid}/root')}/":
                found.append(pid)
    return found


def locked(path: str) -> bool:
    """Whether anybody else has a record lock on any byte of the file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        reply = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(fd)
    return bool(struct.unpack(_FLOCK, reply)[0] != fcntl.F_UNLCK)


def flocked(path: str) -> bool:
    """Whether a process holds a flock on the file. False for a missing file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks after the boot: field 22 of /proc/PID/stat."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def ended(pid: int) -> bool:
    """Whether the process is gone, or waits only for its parent."""
    try:
        return status(pid)["State"][0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(pid: int) -> None:
    """Kill it and wait until it has ended."""
    wait_ended(pid, signal.SIGKILL)


def wait_ended(pid: int, number: int | None = None) -> None:
    """Wait until it has ended; of that signal, if there is one. Raises ProcessLookupError when it is gone already."""
    fd = os.pidfd_open(pid)
    try:
        if number is not None:
            signal.pidfd_send_signal(fd, number)
        assert select.select([fd], [], [], 60)[0], f"{pid} does not end"
    finally:
        os.close(fd)
