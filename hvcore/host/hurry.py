"""How a stop by force hurries a polite stop that is in progress: a byte through a FIFO in the instance's directory.

The polite stop holds the instance's lock and may wait for a minute. It listens at the FIFO: from the byte on its deadline
is over, and the wait that it is in ends at once, also in the code of drivers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from hvcore.deadline import Deadline

__all__ = ["HurriedDeadline", "hurried_deadline", "hurry", "interruptible", "interrupting"]

_FIFO: Final = "hurry"
_HURRY: Final = b"h"
_KILLED: Final = b"k"


class HurriedDeadline(Deadline):
    """A deadline that is over as soon as a stop by force asks for it. ``fd`` is the listener, None where it has none."""

    def __init__(self, of: Deadline, fd: int | None) -> None:
        super().__init__(of.seconds)
        self._begun = of._begun  # noqa: SLF001 - the same class
        self.fd = fd
        self._heard = b""
        self._known = False

    @property
    def hurried(self) -> bool:
        """Whether a stop by force has asked this operation to end its wait."""
        if self.fd is not None:
            with suppress(BlockingIOError):
                self._heard += os.read(self.fd, 64)
        return bool(self._heard)

    @property
    def killed(self) -> bool:
        """Whether the stop by force has ended the processes itself."""
        return self.hurried and _KILLED in self._heard

    def left(self, at_most: float | None = None, *, at_least: float = 0.0) -> float:
        """Seconds until the deadline, like `Deadline.left`. ``at_least`` after a stop by force has asked."""
        if not self.hurried:
            return super().left(at_most, at_least=at_least)
        self._known = True
        return at_least

    def newly_hurried(self) -> bool:
        """Whether it was hurried since the last call: then the wait in progress has to end, and no later one."""
        known, self._known = self._known, self._known or self.hurried
        return self._known and not known


@contextmanager
def hurried_deadline(directory: Path, deadline: Deadline) -> Iterator[HurriedDeadline]:
    """The deadline as one that a stop by force can end, for the block. The caller holds the instance's lock.

    Without a directory, or without space for a FIFO in it, the deadline is returned unchanged: a stop has to work then too.
    """
    fd = _listen(directory / _FIFO)
    try:
        yield HurriedDeadline(deadline, fd)
    finally:
        if fd is not None:
            os.close(fd)
            with suppress(OSError):
                (directory / _FIFO).unlink()


def _listen(path: Path) -> int | None:
    try:
        with suppress(FileExistsError):  # of a stop that was killed
            os.mkfifo(path, 0o600)
        # For writing too, so that the end of a writer is not the end of the file.
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def hurry(directory: Path, *, killed: bool = False) -> bool:
    """Hurry the polite stop of the instance with that directory; False if none listens."""
    try:
        fd = os.open(directory / _FIFO, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # missing, or without a reader
        return False
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode) and bool(os.write(fd, _KILLED if killed else _HURRY))
    except OSError:
        return False
    finally:
        os.close(fd)


_interrupts: ContextVar[HurriedDeadline | None] = ContextVar("_interrupts", default=None)


@contextmanager
def interruptible(deadline: Deadline) -> Iterator[None]:
    """In the block, a stop by force ends the current wait of this thread, once, as if its time were over."""
    token = _interrupts.set(deadline if isinstance(deadline, HurriedDeadline) else None)
    try:
        yield
    finally:
        _interrupts.reset(token)


def interrupting() -> HurriedDeadline | None:
    """The deadline that ends the waits of this thread when its ``fd`` becomes readable; None if nothing ends them."""
    deadline = _interrupts.get()
    return None if deadline is None or deadline.fd is None else deadline
