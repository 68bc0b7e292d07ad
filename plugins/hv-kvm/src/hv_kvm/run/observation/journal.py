"""The run state of a guest, from the journal of events that its QEMU writes.

A third monitor of QEMU writes every event to a plain file, one JSON object per line, and the file outlives the process.
The guest's user owns the file, and a guest that has taken over its QEMU can write anything there, or replace the file.
So no contents make a function here raise, and the result is for people: it never decides whether a guest runs.
"""

from __future__ import annotations

import functools
import json
import os
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from hv_kvm.event import QmpEvent, read_event
from hvcore.plugin import dataclass

__all__ = [
    "EVENTS",
    "TAIL_BYTES",
    "Journal",
    "disk_in",
    "event_in",
    "last_run_state",
    "read_journal",
    "shown_text",
    "trim",
]

TAIL_BYTES: Final = 16 << 10
"""Length of the journal's end that is read: about 150 events."""

_TEXT_CHARACTERS: Final = 100
_MOST_BLOCKS: Final = 2048  # of 512 bytes: 1 MiB
_FALLOC_FL_KEEP_SIZE: Final = 1
_FALLOC_FL_PUNCH_HOLE: Final = 2

_BEGINNING: Final = b'{"timestamp": '  # of every event, in QEMU's own spelling

_BY_PANIC: Final = "guest-panic"  # QEMU's reason for the shutdown after a panic

_GREETING: Final = b'{"QMP": '
_ANSWER: Final = b'{"return": '

# STOP follows these, and does not contain the reason.
_REASONS_TO_STOP: Final = frozenset({"io-error", "panicked", "shutdown", "watchdog"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The state of a guest after its last events.

    ``status`` is ``prelaunch`` (never ran, or was reset while stopped), ``running``, ``paused``, ``suspended``,
    ``shutdown``, ``panicked``, ``io-error``, ``watchdog``, or ``unknown`` when the journal does not show it. ``reason``
    is a short text of QEMU or the kernel. ``guest_initiated`` is for a shutdown: whether the guest asked for it. ``at``
    is QEMU's wall clock in seconds when that began. ``pressed_at`` is when the power button was last pressed since the guest
    was reset. ``torn`` means that a full file system cut the last event, which
    QEMU does not write again: the state may be out of date.
    """

    status: str
    reason: str | None = None
    guest_initiated: bool | None = None
    at: float | None = None
    pressed_at: float | None = None
    torn: bool = False


def last_run_state(lines: Iterable[bytes], *, from_start: bool = True) -> Journal:
    """The run state after these lines of a journal; lines that are not events are skipped.

    ``from_start`` means that nothing came before them, so that a guest without a RESUME has never run. Otherwise the
    status is ``unknown`` until an event shows it.
    """
    journal, pressed_at = Journal(status="prelaunch" if from_start else "unknown"), None
    for line in lines:
        event = event_in(line)
        if event is None:
            continue
        if event.name == "POWERDOWN":  # it says nothing of what the guest will do
            pressed_at = event.at
        elif event.name == "RESET":
            pressed_at = None
        if event.name in _STEPS:
            journal = _STEPS[event.name](journal, event)
    return replace(journal, pressed_at=pressed_at)


def read_journal(path: str) -> Journal:
    """The run state from the last `TAIL_BYTES` of the journal file at ``path``.

    Status ``unknown`` with a reason when the file is missing, cannot be read, or is not a regular file.
    """
    try:
        found = os.stat(path, follow_symlinks=False)
        if found.st_blocks > _MOST_BLOCKS:
            trim(path)  # a guest that reboots for ever would fill the run directory
        return _read(path, found.st_ino, found.st_size, found.st_mtime_ns)
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        return Journal(status="unknown", reason=f"no journal: {why}")


@functools.lru_cache(maxsize=4096)  # reading journals that have not changed would be half of a list's time
def _read(path: str, *_unchanged: int) -> Journal:
    fd = _open(path, os.O_RDONLY)
    try:
        start = max(0, os.fstat(fd).st_size - TAIL_BYTES)
        tail = os.pread(fd, TAIL_BYTES, start)
    finally:
        os.close(fd)
    # A torn first or last line is not JSON, and skipped.
    lines = tail.split(b"\n")
    found = last_run_state(lines, from_start=start == 0 and _is_whole(lines))
    return replace(found, torn=True) if tail and not tail.endswith(b"\n") else found


def _is_whole(lines: list[bytes]) -> bool:
    """Whether these first lines are QEMU's greeting and the answer that begins the events.

    The file may have been emptied, and then begins with zeros. In a start that was interrupted QEMU may not have got the
    command that begins the events, and none will come.
    """
    return lines[0].startswith(_GREETING) and any(line.startswith(_ANSWER) for line in lines[1:3])


def trim(path: str, keep: int = 4 * TAIL_BYTES) -> int:
    """Give the disk space of all but the last ``keep`` bytes of the journal back; the bytes freed, 0 if none could be.

    QEMU goes on writing at its own offset, so the file is not shortened: a hole takes the place of the old events, and
    ``keep`` is rounded up to whole blocks. Does nothing for a file that is missing, not regular, or has a second name,
    or where the file system has no holes.
    """
    try:
        fd = _open(path, os.O_WRONLY)
    except (OSError, ValueError):
        return 0
    try:
        before = os.fstat(fd)
        # A second name could be the file of another user.
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


def _open(path: str, mode: int) -> int:
    fd = os.open(path, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ValueError("not a regular file")
    return fd


def _punch(fd: int, length: int) -> None:
    """Make the first ``length`` bytes a hole. Does nothing where that is not supported."""
    import ctypes  # noqa: PLC0415 - 2.1 ms, and a listing does not need it

    libc = ctypes.CDLL(None)
    # The 64-bit name exists in glibc on every architecture; musl has only the other, which is the same there.
    fallocate = getattr(libc, "fallocate64", None) or libc.fallocate
    fallocate(fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(length))


def event_in(line: bytes) -> QmpEvent | None:
    """The event in a line of a journal; None for anything else."""
    # Zeros where trim ended, or the beginning of an event that found no space for the rest.
    begin = max(0, line.rfind(_BEGINNING))
    try:
        message = json.loads(line[begin:].lstrip(b"\0"))
    except (ValueError, RecursionError):
        return None
    return read_event(message) if isinstance(message, dict) and isinstance(message.get("event"), str) else None


def shown_text(value: Any) -> str | None:
    """A string as it can be shown: no control characters, bounded. None for anything else."""
    if not isinstance(value, str) or not value:
        return None
    return "".join(c if c.isprintable() else "?" for c in value[:_TEXT_CHARACTERS])


def disk_in(event: QmpEvent) -> str | None:
    """The disk that an event is about, by the first of its names that QEMU gives; None without one."""
    return next(filter(None, (shown_text(event.data.get(key)) for key in ("device", "node-name", "qom-path"))), None)


def _shut_down(before: Journal, event: QmpEvent) -> Journal:
    guest, reason = event.data.get("guest"), shown_text(event.data.get("reason"))
    by_guest = guest if isinstance(guest, bool) else None
    if before.status == "panicked" and reason in {None, _BY_PANIC}:
        return replace(before, guest_initiated=by_guest)
    if reason == _BY_PANIC:  # the panic itself is before the part of the journal that was read
        return Journal(status="panicked", guest_initiated=by_guest, at=event.at)
    return Journal(status="shutdown", reason=reason, guest_initiated=by_guest, at=event.at)


def _panicked(before: Journal, event: QmpEvent) -> Journal:
    """With action ``run`` the guest goes on."""
    action = shown_text(event.data.get("action"))
    return before if action == "run" else Journal(status="panicked", reason=action, at=event.at)


def _io_error(before: Journal, event: QmpEvent) -> Journal:
    """Only action ``stop`` stops the guest; otherwise the guest handles the error."""
    data = event.data
    if data.get("action") != "stop":
        return before
    what = "no space" if data.get("nospace") is True else shown_text(data.get("reason")) or "error"
    place = disk_in(event)
    return Journal(status="io-error", reason=f"{place}: {what}" if place else what, at=event.at)


def _watchdog(before: Journal, event: QmpEvent) -> Journal:
    """Only action ``pause`` leaves the guest paused; reset and shutdown send other events too."""
    return Journal(status="watchdog", reason="pause", at=event.at) if event.data.get("action") == "pause" else before


def _becomes(status: str, *, unless: Collection[str] = ()) -> Callable[[Journal, QmpEvent], Journal]:
    """The event changes the status to ``status``, unless the status is one of these."""
    return lambda before, event: before if before.status in unless else Journal(status=status, at=event.at)


_STEPS: Final[Mapping[str, Callable[[Journal, QmpEvent], Journal]]] = {
    "RESUME": _becomes("running"),
    "STOP": _becomes("paused", unless=_REASONS_TO_STOP),
    "SHUTDOWN": _shut_down,
    # A guest that runs goes on; a stopped one is now as if never started (QEMU, softmmu/runstate.c).
    "RESET": _becomes("prelaunch", unless=("running", "unknown")),
    "SUSPEND": _becomes("suspended"),
    "WAKEUP": lambda before, event: (
        Journal(status="running", at=event.at) if before.status in {"suspended", "unknown"} else before
    ),
    "GUEST_PANICKED": _panicked,
    "BLOCK_IO_ERROR": _io_error,
    "WATCHDOG": _watchdog,
}

EVENTS: Final = tuple(_STEPS)
"""The QEMU events that show a guest's state."""
