"""Launching a program so that it does nothing before it has been put where it belongs.

What is launched stands at a gate, a pipe, before its first step. The gate is opened once the process is in its control
group; if whoever launched it dies before that, the pipe closes and the process ends without having run anything.

For a program without bubblewrap, which reads its options from the pipe, this module is the gate-keeper itself:
``python -I -S gate.py FD COMMAND...``.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys

TYPE_CHECKING = False  # typing takes longer to import than all that is done here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from hvcore.host.confinement.bubblewrap import Wrapped

__all__ = ["Gate", "behind_gate", "main"]

_FAILED = 125
_IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE and SIGXFSZ: ignored signals stay ignored through exec


class Gate:
    """A gate that is closed. Leaving its block without `open` turns away who stands at it."""

    def __init__(self) -> None:
        self.fd, self._word_fd = os.pipe2(os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget_reader()
        os.close(self._word_fd)

    def open(self, word: Sequence[str]) -> None:
        """Let it go on, with these options to read. One that has ended already needs none."""
        self._forget_reader()  # with ours open, writing to one that has ended would block
        view = memoryview(b"".join(os.fsencode(part) + b"\0" for part in word))
        while view:
            try:
                view = view[os.write(self._word_fd, view) :]
            except BrokenPipeError:
                return

    def _forget_reader(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def behind_gate(fd: int, whole: Wrapped) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The same command with the gate in front of it, and the word that opens it.

    The outermost bubblewrap reads all of its options from the pipe, before it does anything at all; with none its file
    system is empty, and it finds nothing to execute there.
    """
    if whole.before:
        return (*whole.before, "--args", str(fd), *whole.after), whole.options
    if shutil.which(whole.after[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), whole.after[0])
    return (sys.executable, "-I", "-S", os.path.abspath(__file__), str(fd), *whole.after), ("go",)


def main(arguments: list[str]) -> int:
    """Wait at the gate, then become the command; 125 when that is not to be."""
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
