"""What a program inherits from the thread that launches it: the personality, the timer slack, and the session keyring.

``setarch -R`` takes the random addresses from everything below it, a timer slack makes all timers late, and the keyring of
a login session has the keys of that user. All three belong to a thread and pass through fork and exec, and a process can
set them only for itself. So a new thread launches the program, and in it they are as planned.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

from hvcore.host.libc import libc_call, system_call
from hvcore.host.threads import in_thread

__all__ = ["from_planned_thread"]

T = TypeVar("T")

_PER_LINUX: Final = 0  # linux/personality.h
_PR_SET_TIMERSLACK: Final = 29  # linux/prctl.h
_USUAL_SLACK_NS: Final = 50_000  # init/init_task.c
_KEYCTL_JOIN_SESSION_KEYRING: Final = 1  # linux/keyctl.h
_KEYCTL: Final = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}


def from_planned_thread(call: Callable[[], T]) -> T:
    """The result of the call in a thread whose children inherit nothing of the caller's. Raises what the call raises."""

    def run() -> T:
        _plan()
        return call()

    return in_thread(run, name="launch")


def _plan() -> None:
    # What a container or a quota refuses stays as it is.
    with suppress(OSError):
        libc_call("personality", _PER_LINUX)
    with suppress(OSError):
        libc_call("prctl", _PR_SET_TIMERSLACK, _USUAL_SLACK_NS, 0, 0, 0)
    keyctl = _KEYCTL.get(os.uname().machine)
    if keyctl is not None:
        with suppress(OSError):
            system_call(keyctl, _KEYCTL_JOIN_SESSION_KEYRING, None)
