"""Signals, as a program expects them of who starts it, whatever a host application has done with its own.

Ignored and blocked signals stay so through fork and exec. bubblewrap waits for SIGCHLD: where that is ignored it never
hears of its child's end and stays for ever, and a service that is asked to stop by a blocked signal goes on. And who
ignores SIGCHLD, or waits for whatever child there is, keeps us from learning how one of ours ended.

Run as a program, ``python -I -S signals.py FD COMMAND...``, this takes everything back and becomes the command; with a
descriptor it is the command's parent instead, and writes the exit code there as `subprocess` has it.
"""

from __future__ import annotations

import os
import signal
import sys

__all__ = ["main", "telling", "with_default_signals"]

_NOWHERE = "-"
# Those that `subprocess` itself takes back, which Python ignores.
_TAKEN_BACK = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


def with_default_signals() -> tuple[str, ...]:
    """What a command has to begin with so that no signal is ignored or blocked; nothing when none is."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    asked = signal.valid_signals() - _TAKEN_BACK
    if not blocked and all(signal.getsignal(number) is not signal.SIG_IGN for number in asked):
        return ()
    return _ourselves(_NOWHERE)


def telling(fd: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The same, and the exit code is written to that descriptor, unless its parent will learn it anyway.

    Second are the descriptors that it has to be given for that.
    """
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:
        return with_default_signals(), ()
    return _ourselves(str(fd)), (fd,)


def _ourselves(fd: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", os.path.abspath(__file__), fd)


def main(argv: list[str]) -> int:
    """Become the command, or wait for it and return its exit code."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    fd, *command = argv
    if fd == _NOWHERE:
        os.execvp(command[0], command)  # noqa: S606 - no shell is the point
    os.set_inheritable(int(fd), False)
    code = os.spawnvp(os.P_WAIT, command[0], command)  # noqa: S606 - the same
    os.write(int(fd), str(code).encode())
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
