"""Default signals for a program, regardless of the signals that the host application ignores or blocks.

A signal that a process ignores or blocks stays ignored or blocked in a program that it starts. If SIGCHLD is ignored,
bubblewrap never learns that its child has exited, and never exits. If SIGTERM is blocked, it cannot stop a service. If
the host application ignores SIGCHLD or waits for any child, the exit codes of our children are lost.

Run as a program, ``python -I -S signals.py FD COMMAND...``, this module resets all signals and executes the command. With
a descriptor instead of ``-`` it runs the command as a child, and writes its exit code there in the form of `subprocess`.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main", "reporting", "with_default_signals"]

_NO_FD = "-"
_RESET_BY_SUBPROCESS = frozenset({signal.SIGPIPE, signal.SIGXFSZ})  # ignored by Python


def with_default_signals() -> tuple[str, ...]:
    """The prefix of a command that must have no signal ignored or blocked; empty if none is."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    numbers = signal.valid_signals() - _RESET_BY_SUBPROCESS
    if not blocked and all(signal.getsignal(number) is not signal.SIG_IGN for number in numbers):
        return ()
    return _this_program(_NO_FD)


def reporting(fd: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The prefix of a command whose exit code is also written to ``fd`` if its parent may not get it.

    The second value are the descriptors that the command has to inherit for that.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:
        return with_default_signals(), ()
    return _this_program(str(fd)), (fd,)


def _this_program(fd: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", os.path.abspath(__file__), fd)


def main(argv: list[str]) -> int:
    """Execute the command, or run it and return its exit code."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    fd, *command = argv
    if fd == _NO_FD:
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    os.set_inheritable(int(fd), False)
    code = os.spawnvp(os.P_WAIT, command[0], command)  # noqa: S606 - the same
    os.write(int(fd), str(code).encode())
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
