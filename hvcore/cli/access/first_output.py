"""``hv start --console`` of an instance whose console is a program inside it: what it prints, from the first byte.

Such an instance has no console before it runs, but a log. The instance runs when this begins to print the log.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import hvcore
from hvcore.cli.access.exec_and_log import print_piece
from hvcore.cli.output import remark, results
from hvcore.cli.session import report_states

__all__ = ["run_and_print"]

_AGAIN_S: Final = 0.1
_PIECE_BYTES: Final = 64 * 1024
_ENDED: Final = (hvcore.State.SHUTDOWN, hvcore.State.CRASHED, hvcore.State.STOPPED)


def run_and_print(node: hvcore.Node, name: str) -> None:
    """Let the instance, which has not run yet, run, and print its log until it has ended or the user leaves with ^C.

    An instance that cannot run is stopped, as after any start that fails, and the error is raised.
    """
    log = _Printer(node.log(name).path)
    with report_states(name):
        try:
            with log.printing():
                node.resume(name)
        except BaseException:
            with suppress(hvcore.HvError):
                node.stop(name, force=True)
            raise
    remark(f"printing the output of {name}; leave with ^C, and see 'hv console {name}'")
    with report_states(name):
        while True:
            with suppress(hvcore.DeadlineError):
                ended = node.wait(name, state=_ENDED, deadline_s=_AGAIN_S)
                break
            log.print_new()
    log.print_new()
    remark(f"{name}: {ended.state}{f' ({ended.reason})' if ended.reason else ''}")


class _Printer:
    """Prints what is added to a file that may not exist yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._offset = 0

    def print_new(self) -> None:
        """Print everything that is new. Raises OSError if stdout fails."""
        while piece := self._read():
            self._offset += len(piece)
            print_piece(results(), piece)

    def _read(self) -> bytes:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            return os.pread(fd, _PIECE_BYTES, self._offset)
        finally:
            os.close(fd)

    @contextmanager
    def printing(self) -> Iterator[None]:
        """Print in a thread during the block: the main thread is the one that ^C interrupts."""
        over = threading.Event()

        def run() -> None:
            with suppress(OSError):  # of stdout: the main thread will see it too
                while not over.wait(_AGAIN_S):
                    self.print_new()

        thread = threading.Thread(target=run, name="first output")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
