"""A gate at which a launched process waits until it is in its control group, before its first step.

The gate is a pipe. If the launching process dies before it opens the gate, the pipe closes, and the launched process exits
without running anything. bubblewrap reads its options from the pipe. For a program without bubblewrap, this module waits:
``python -I -S gate.py FD COMMAND...``.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys

TYPE_CHECKING = False  # importing typing takes longer than everything below
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from hvcore.host.confinement.bubblewrap import Wrapped

__all__ = ["Gate", "behind_gate", "main"]

_FAILED = 125
_IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE and SIGXFSZ: ignored signals stay ignored through exec


class Gate:
    """A closed gate. If its block is left without `open`, the process that waits at it exits."""

    def __init__(self) -> None:
        self.fd, self._words_fd = os.pipe2(os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_reader()
        os.close(self._words_fd)

    def open(self, words: Sequence[str]) -> None:
        """Write these words for the process to read, and let it continue. One that has exited is fine."""
        self._close_reader()  # or a write for a process that has exited would block
        view = memoryview(b"".join(os.fsencode(word) + b"\0" for word in words))
        while view:
            try:
                view = view[os.write(self._words_fd, view) :]
            except BrokenPipeError:
                return

    def _close_reader(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def behind_gate(fd: int, whole: Wrapped) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same command behind the gate, and the words that open it.

    The outermost bubblewrap first reads all of its options from the pipe. Without options, its file system is empty, and it
    finds nothing to execute there.
    """
    if whole.before:
        return (*whole.before, "--args", str(fd), *whole.after), whole.options
    program = whole.after[0]
    if shutil.which(program) is None:
        wrong = errno.EACCES if os.path.exists(program) else errno.ENOENT
        raise OSError(wrong, os.strerror(wrong), program)
    return (sys.executable, "-I", "-S", os.path.abspath(__file__), str(fd), *whole.after), ("go",)


def main(arguments: list[str]) -> int:
    """Wait at the gate, then execute the command; 125 if the gate closes or that fails."""
    fd, argv = int(arguments[0]), arguments[1:]
    if not os.read(fd, 1):
        return _FAILED
    os.close(fd)
    for number in _IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: cannot be executed, got {error.strerror}\n")
    return _FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
