"""One writer per instance: a lock file held by ``flock``, that says who holds it and why."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.errors import BusyError, NodeError

__all__ = ["close_in_children", "forget_in_children", "held_lock", "is_held", "same_file", "try_lock"]

# The kernel cannot wait for a flock with a deadline, and a signal or a blocked thread is not a library's to use.
_FIRST_RETRY_S: Final = 0.001
_LAST_RETRY_S: Final = 0.05

_NO_FILE: Final = {errno.ENOENT, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}

# Descriptors of the locks that this process holds. A child that the host application forks meanwhile shares the hold
# of each, also when its parent is killed: so it gives up its copies at once.
_held: Final[set[int]] = set()


def _forget_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_in_child)


def close_in_children(fd: int) -> None:
    """Let no child that is forked from now on share the lock that this descriptor holds."""
    _held.add(fd)


def forget_in_children(fd: int) -> None:
    """The descriptor is about to be closed: its number may soon be that of another file."""
    _held.discard(fd)


@contextmanager
def held_lock(path: Path, *, subject: str, purpose: str, wait_s: float = 5.0, keep: bool = False) -> Iterator[int]:
    """Hold the lock at ``path`` for the block; yields its fd, which no child inherits.

    Raises `BusyError` naming the holder after ``wait_s``, and `NodeError` when there can be no such file. The file is
    removed again unless ``keep``: whoever takes a lock compares the inode afterwards, so a file unlinked by its holder
    is never held by two.
    """
    fd = _take(path, subject, wait_s)
    close_in_children(fd)
    try:
        with suppress(OSError):  # a full disk: the lock holds all the same, only nobody is told by whom
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {purpose}\n".encode(), 0)
        yield fd
    finally:
        if fd in _held:  # else this is a forked child that leaves its parent's block, and the hold is the parent's
            try:
                if not keep:
                    with suppress(OSError):  # a file that stays is in nobody's way, a lock that is still held would be
                        path.unlink(missing_ok=True)
            finally:  # also when the user interrupts just here
                # Explicitly, because a child that was forked by other means shares the hold.
                with suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_UN)
                forget_in_children(fd)
                os.close(fd)


def _take(path: Path, subject: str, wait_s: float) -> int:
    give_up = time.monotonic() + wait_s
    retry_s = _FIRST_RETRY_S
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NodeError(f"{subject}: cannot be locked, got {error.strerror}; check {path}") from error
        taken = False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = same_file(fd, path)
            if taken:
                return fd
        except BlockingIOError:
            if time.monotonic() >= give_up:
                holder = os.pread(fd, 200, 0).decode("utf-8", "backslashreplace").strip()
                raise BusyError(_busy(subject, holder, wait_s)) from None
            time.sleep(retry_s)
            retry_s = min(retry_s * 2, _LAST_RETRY_S)
        except OSError as error:
            raise NodeError(f"{subject}: cannot be locked, got {error.strerror}; check {path}") from error
        finally:
            if not taken:
                os.close(fd)


def _busy(subject: str, holder: str, wait_s: float) -> str:
    pid, _, purpose = holder.partition(" ")
    by = f"held by pid {pid} ({purpose})" if purpose else "held by another process"
    return f"{subject}: busy, {by} for more than {wait_s:.3g} s; wait for it or look at that process"


def same_file(fd: int, path: Path) -> bool:
    """Whether what is open is still what is at that path."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def try_lock(fd: int) -> bool:
    """Take the ``flock`` on an open file; False when somebody else holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """True while some process holds a ``flock`` on the file. What is missing, or no file, nobody has locked."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NO_FILE:
            return False
        raise
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and not try_lock(fd)
    finally:
        os.close(fd)
