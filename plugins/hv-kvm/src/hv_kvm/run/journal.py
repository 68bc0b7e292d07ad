"""What became of a guest, from the journal that its QEMU wrote while nobody watched.

A monitor of QEMU's own writes every event to a plain file beside the guest, one JSON object per line, and the file
outlives the process. The guest's user owns that file, and a guest that has taken its QEMU over can put anything there
and anything in its place. So nothing here raises for what it finds, and the result is for people to read: whether a
guest runs is never decided by it.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hv_kvm.timestamp import event_time

__all__ = ["EVENTS", "TAIL_BYTES", "Journal", "last_run_state", "read_journal", "trim"]

TAIL_BYTES: Final = 16 << 10
"""How much of the journal's end is read: about 150 events."""

_TEXT_CHARACTERS: Final = 100
_MOST_BLOCKS: Final = 2048  # of 512 bytes: 1 MiB
_FALLOC_FL_KEEP_SIZE: Final = 1
_FALLOC_FL_PUNCH_HOLE: Final = 2

_BEGINNING: Final = b'{"timestamp": '  # of every event, in QEMU's own spelling

# STOP follows these and says only that the vCPUs stopped, not why.
_REASONS_TO_STOP: Final = frozenset({"io-error", "panicked", "shutdown", "watchdog"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The last word on a guest.

    ``status`` is ``prelaunch`` (never ran, or was reset while stopped), ``running``, ``paused``, ``suspended``,
    ``shutdown``, ``panicked``, ``io-error``, ``watchdog``, or ``unknown`` when the journal does not tell; ``reason`` is
    QEMU's or the kernel's short text; ``guest_initiated`` says who asked for a shutdown, None for everything else;
    ``at`` is QEMU's wall clock in seconds when that began. ``torn`` says that the last event could not be written
    whole, for want of space, and QEMU does not write it again: all this may be of before.
    """

    status: str
    reason: str | None = None
    guest_initiated: bool | None = None
    at: float | None = None
    torn: bool = False


def last_run_state(lines: Iterable[bytes], *, from_start: bool = True) -> Journal:
    """The run state after these lines of a journal; what is no event is skipped.

    ``from_start`` says that nothing came before them, so that a guest without a RESUME has never run; otherwise no
    telling event means ``unknown``.
    """
    journal = Journal(status="prelaunch" if from_start else "unknown")
    for line in lines:
        event = _event(line)
        if event is not None:
            name, data, at = event
            step = _STEPS.get(name)
            if step is not None:
                journal = step(journal, data, at)
    return journal


def read_journal(path: str, *, dir_fd: int | None = None) -> Journal:
    """The run state from the journal file at ``path`` (below ``dir_fd`` if given), from its last `TAIL_BYTES`.

    Status ``unknown`` with a reason when the file is missing, cannot be read, or is no regular file.
    """
    try:
        if dir_fd is not None:
            return _read(path, dir_fd)
        found = os.stat(path, follow_symlinks=False)
        if found.st_blocks > _MOST_BLOCKS:
            trim(path)  # a guest that reboots for ever would fill the run directory
        return _read_once(path, found.st_ino, found.st_size, found.st_mtime_ns)
    except (OSError, ValueError) as error:
        return Journal(status="unknown", reason=f"no journal: {_why(error)}")


@functools.lru_cache(maxsize=4096)  # reading journals that have not changed would be half of a list's time
def _read_once(path: str, *_unchanged: int) -> Journal:
    return _read(path, None)


def _read(path: str, dir_fd: int | None) -> Journal:
    fd = _open(path, os.O_RDONLY, dir_fd)
    try:
        size = os.fstat(fd).st_size
        start = max(0, size - TAIL_BYTES)
        tail = os.pread(fd, TAIL_BYTES, start)
    finally:
        os.close(fd)
    # A torn first or last line is no JSON and skipped with all the rest that is none.
    found = last_run_state(tail.split(b"\n"), from_start=start == 0)
    return replace(found, torn=True) if tail and not tail.endswith(b"\n") else found


def trim(path: str, keep: int = 4 * TAIL_BYTES, *, dir_fd: int | None = None) -> int:
    """Give the disk space of all but the last ``keep`` bytes of the journal back; the bytes freed, 0 if none could be.

    QEMU goes on writing at its own offset, so the file is not shortened: a hole takes the place of the old events, and
    ``keep`` is rounded up to whole blocks. Does nothing for a file that is not there, not regular, or has a second
    name, or where the file system knows no holes.
    """
    try:
        fd = _open(path, os.O_WRONLY, dir_fd)
    except (OSError, ValueError):
        return 0
    try:
        before = os.fstat(fd)
        # A second name could be somebody else's file.
        if before.st_nlink != 1:
            return 0
        hole = max(0, before.st_size - keep) // before.st_blksize * before.st_blksize
        if hole and before.st_blocks * 512 > keep + before.st_blksize:
            _punch(fd, hole)
        return max(0, before.st_blocks - os.fstat(fd).st_blocks) * 512
    except OSError:
        return 0
    finally:
        os.close(fd)


def _open(path: str, mode: int, dir_fd: int | None) -> int:
    fd = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError("not a regular file")
    return fd


def _why(error: OSError | ValueError) -> str:
    return os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)


def _punch(fd: int, length: int) -> None:
    """Make the first ``length`` bytes a hole. Does nothing where that is not supported."""
    import ctypes  # noqa: PLC0415 - 2.1 ms, not for a look

    libc = ctypes.CDLL(None)
    offset_type = ctypes.c_int64
    # The 64-bit name exists in glibc on every architecture; musl has only the other, which is the same there.
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, offset_type, offset_type]
    fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, 0, length)


def _event(line: bytes) -> tuple[str, Mapping[str, Any], float | None] | None:
    # Zeros where trim ended, or the beginning of an event that found no space for the rest.
    begin = max(0, line.rfind(_BEGINNING))
    try:
        message = json.loads(line[begin:].lstrip(b"\0"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(name := message.get("event"), str):
        return None
    data = message.get("data")
    return name, data if isinstance(data, dict) else {}, event_time(message.get("timestamp"))


def _text(value: Any) -> str | None:
    """A string as it can be shown: no control characters, bounded. None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(c if c.isprintable() else "?" for c in value[:_TEXT_CHARACTERS])


def _resumed(_before: Journal, _data: Mapping[str, Any], at: float | None) -> Journal:
    return Journal(status="running", at=at)


def _stopped(before: Journal, _data: Mapping[str, Any], at: float | None) -> Journal:
    return before if before.status in _REASONS_TO_STOP else Journal(status="paused", at=at)


def _shut_down(before: Journal, data: Mapping[str, Any], at: float | None) -> Journal:
    guest, reason = data.get("guest"), _text(data.get("reason"))
    by_guest = guest if isinstance(guest, bool) else None
    if before.status == "panicked" and reason in {None, "guest-panic"}:
        return replace(before, guest_initiated=by_guest)
    return Journal(status="shutdown", reason=reason, guest_initiated=by_guest, at=at)


def _reset(before: Journal, _data: Mapping[str, Any], at: float | None) -> Journal:
    """A guest that runs goes on running; a stopped one is now as if never started (QEMU, softmmu/runstate.c)."""
    return before if before.status in {"running", "unknown"} else Journal(status="prelaunch", at=at)


def _suspended(_before: Journal, _data: Mapping[str, Any], at: float | None) -> Journal:
    return Journal(status="suspended", at=at)


def _woken(before: Journal, _data: Mapping[str, Any], at: float | None) -> Journal:
    return Journal(status="running", at=at) if before.status in {"suspended", "unknown"} else before


def _panicked(before: Journal, data: Mapping[str, Any], at: float | None) -> Journal:
    """With action ``run`` the guest goes on."""
    action = _text(data.get("action"))
    return before if action == "run" else Journal(status="panicked", reason=action, at=at)


def _io_error(before: Journal, data: Mapping[str, Any], at: float | None) -> Journal:
    """Only action ``stop`` stops the guest; otherwise the error is its own to handle."""
    if data.get("action") != "stop":
        return before
    what = "no space" if data.get("nospace") is True else _text(data.get("reason")) or "error"
    place = _text(data.get("device")) or _text(data.get("node-name")) or _text(data.get("qom-path"))
    return Journal(status="io-error", reason=f"{place}: {what}" if place else what, at=at)


def _watchdog(before: Journal, data: Mapping[str, Any], at: float | None) -> Journal:
    """Only action ``pause`` leaves it at that; reset and shutdown send events of their own."""
    return Journal(status="watchdog", reason="pause", at=at) if data.get("action") == "pause" else before


# POWERDOWN is absent on purpose: a pressed button says nothing of what the guest will do.
_STEPS: Final[Mapping[str, Callable[[Journal, Mapping[str, Any], float | None], Journal]]] = {
    "RESUME": _resumed,
    "STOP": _stopped,
    "SHUTDOWN": _shut_down,
    "RESET": _reset,
    "SUSPEND": _suspended,
    "WAKEUP": _woken,
    "GUEST_PANICKED": _panicked,
    "BLOCK_IO_ERROR": _io_error,
    "WATCHDOG": _watchdog,
}

EVENTS: Final = tuple(_STEPS)
"""The events of QEMU that tell something of a guest's state."""
