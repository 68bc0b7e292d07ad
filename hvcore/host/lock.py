"""Lock files held by ``flock``, which name their holder: one writer per instance."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.errors import BusyError, NodeError

__all__ = [
    "close_in_children",
    "close_lock",
    "has_lock_here",
    "held_directory",
    "held_lock",
    "is_held",
    "leave_in_children",
    "same_file",
    "try_lock",
]

# The kernel cannot wait for a flock with a deadline, and a library must not take a signal or a thread of its host.
_FIRST_RETRY_S: Final = 0.001
_LAST_RETRY_S: Final = 0.05

_NO_FILE: Final = {errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}

# Descriptors of the locks that this process holds. A child that the host application forks shares each hold, also after
# its parent was killed: so it closes its copies at once.
_held: Final[set[int]] = set()


def _close_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)


def close_in_children(fd: int) -> None:
    """Close this descriptor in every child forked from now on, so that no child shares its lock."""
    _held.add(fd)


def leave_in_children(fd: int) -> None:
    """The opposite of `close_in_children`, for a new owner of the descriptor, who closes it as any other."""
    _held.discard(fd)


def close_lock(fd: int) -> None:
    """Close a descriptor of `close_in_children`."""
    _held.discard(fd)  # first, because the number may soon be that of another file
    os.close(fd)


@contextmanager
def held_lock(
    path: Path,
    *,
    subject: str,
    purpose: str,
    wait_s: float = 5.0,
    keep: bool = False,
    while_busy: Callable[[], float] = lambda: 0.0,
) -> Iterator[int]:
    """Hold the lock at ``path`` for the block; yields its fd, which no child inherits.

    Raises `BusyError` naming the holder after ``wait_s``, and `NodeError` if the file cannot be made or locked. The file
    is removed again unless ``keep``. A process that gets the lock then compares the inode with that of the path, so a lock
    on a file that was removed does not count.
    ``while_busy`` is called at each try that finds another holder: how many seconds longer than ``wait_s`` to wait.
    """
    fd = _take(path, subject, wait_s, while_busy)
    close_in_children(fd)
    try:
        with suppress(OSError):  # a full disk: the lock holds all the same, without the name of its holder
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {purpose}\n".encode(), 0)
        yield fd
    finally:
        if fd in _held:  # else this is a forked child that leaves its parent's block, and the hold is the parent's
            try:
                if not keep:
                    with suppress(OSError):  # a file that stays is harmless, a lock that stays held is not
                        path.unlink(missing_ok=True)
            finally:  # also when the user interrupts just here
                # Explicitly, because a child that was forked by other means shares the hold.
                with suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_UN)
                close_lock(fd)


@contextmanager
def held_directory(
    path: Path, *, subject: str, wait_s: float = 5.0, while_busy: Callable[[], float] = lambda: 0.0
) -> Iterator[None]:
    """Hold a lock on that directory itself for the block, which needs no room. Nothing is held if it is missing.

    Raises `BusyError` after ``wait_s``, and `NodeError` if it cannot be locked.
    """
    fd = _take(path, subject, wait_s, while_busy, flags=os.O_RDONLY | os.O_DIRECTORY) if path.is_dir() else -1
    if fd < 0:
        yield
        return
    close_in_children(fd)
    try:
        yield
    finally:
        if fd in _held:
            with suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            close_lock(fd)


def _take(
    path: Path, subject: str, wait_s: float, while_busy: Callable[[], float], *, flags: int = os.O_RDWR | os.O_CREAT
) -> int:
    give_up = time.monotonic() + wait_s
    retry_s = _FIRST_RETRY_S
    while True:
        fd = -1
        try:
            fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if try_lock(fd):
                if same_file(fd, path):
                    taken, fd = fd, -1
                    return taken
                continue
            if time.monotonic() >= give_up + while_busy():
                raise _busy(fd, subject, wait_s)
            time.sleep(retry_s)
            retry_s = min(retry_s * 2, _LAST_RETRY_S)
        except OSError as error:
            raise NodeError(f"{subject}: cannot be locked, got {error.strerror}; check {path}") from error
        finally:
            if fd >= 0:
                os.close(fd)


def _busy(fd: int, subject: str, wait_s: float) -> BusyError:
    said = os.pread(fd, 200, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""  # a directory does not say
    pid, _, purpose = said.decode("utf-8", "backslashreplace").strip().partition(" ")
    by = f"held by pid {pid} ({purpose})" if purpose else "held by another process"
    todo = "wait, or check that process"
    return BusyError(
        f"{subject}: busy, {by} for more than {wait_s:.3g} s; {todo}",
        subject=subject,
        holder_pid=int(pid) if purpose and pid.isdecimal() else None,
        holder_operation=purpose or None,
        waited_s=wait_s,
    )


def has_lock_here(path: Path) -> bool:
    """Whether this process holds the lock on the file itself, by a descriptor of `close_in_children`."""
    for fd in tuple(_held):
        with suppress(OSError):  # one that a host application has closed
            if same_file(fd, path):
                return True
    return False


def same_file(fd: int, path: Path) -> bool:
    """Whether the open file is the one at that path."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def try_lock(fd: int) -> bool:
    """Take the ``flock`` on an open file; False if another process holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a process holds a ``flock`` on the file. False for a missing file and for anything but a regular one."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            fd = os.open(path, os.O_RDWR | flags)  # a network file system takes no lock without the right to write
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            fd = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno in _NO_FILE:
            return False
        raise
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and not try_lock(fd)
    finally:
        os.close(fd)
