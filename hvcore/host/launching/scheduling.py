"""How the kernel treats a launched process: CPUs, priorities, OOM score. As planned, regardless of the caller's.

All of it is inherited through fork and exec: from ``nice``, ``taskset``, ``chrt``, ``ionice``, ``choom``, or a service with
such settings. It is set while the process waits at its gate, after it left the caller's cpuset and before it forks.
Only root can raise a priority again: without root, what the kernel refuses stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hvcore.frozen import dataclass
from hvcore.host.libc import system_call

__all__ = ["PLANNED", "UMASK", "as_planned", "inherited", "killed_last"]

UMASK: Final = 0o022
PLANNED: Final = (
    "the CPUs of the node, nice 0, the normal scheduler, no io class, OOM score adjustment 0, umask 022, all signals at "
    "their defaults, the usual personality and timer slack, and a new session keyring"
)
"""In words, for a plan."""

# ioprio_set(2) and ioprio_get(2) have no function in the C library.
_IOPRIO_NUMBERS: Final = {
    "x86_64": (251, 252),
    "aarch64": (30, 31),
    "riscv64": (30, 31),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
}
_IOPRIO_WHO_PROCESS: Final = 1
_IOPRIO_NONE: Final = 0
_IOPRIO_OF_NICE_0: Final = 2 << 13 | 4  # what kernels before 5.18 report for none
_INIT: Final = 1
_LAST_CHOICE: Final = "-999"  # -1000 means never: if all processes have it, none runs on at the limit


@dataclass(frozen=True, slots=True)
class _Attribute:
    """``is_planned`` and ``plan`` get the pid of a process with one thread, 0 for this thread. They raise OSError."""

    name: str
    is_planned: Callable[[int], bool]
    plan: Callable[[int], object]


def _io_call(position: int, pid: int, *value: int) -> int:
    numbers = _IOPRIO_NUMBERS.get(os.uname().machine)
    if numbers is None:
        return _IOPRIO_NONE
    return system_call(numbers[position], _IOPRIO_WHO_PROCESS, pid, *value)


def _oom_adjustment(pid: int) -> int:
    return int(_oom_file(pid).read_text())


def _oom_file(pid: int) -> Path:
    return Path("/proc", str(pid or "self"), "oom_score_adj")


# The scheduler first: nice means nothing to a real-time process. The CPUs are those of init: without the isolated ones of
# the kernel's command line, and without those that systemd.conf keeps back (CPUAffinity=).
_ATTRIBUTES: Final = (
    _Attribute(
        "scheduler",
        lambda pid: os.sched_getscheduler(pid) == os.SCHED_OTHER,
        lambda pid: os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0)),
    ),
    _Attribute(
        "nice",
        lambda pid: os.getpriority(os.PRIO_PROCESS, pid) == 0,
        lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 0),
    ),
    _Attribute(
        "CPUs",
        lambda pid: os.sched_getaffinity(pid) == os.sched_getaffinity(_INIT),
        lambda pid: os.sched_setaffinity(pid, os.sched_getaffinity(_INIT)),
    ),
    _Attribute(
        "io class",
        lambda pid: _io_call(1, pid) in (_IOPRIO_NONE, _IOPRIO_OF_NICE_0),
        lambda pid: _io_call(0, pid, _IOPRIO_NONE),
    ),
    _Attribute("OOM score", lambda pid: _oom_adjustment(pid) == 0, lambda pid: _oom_file(pid).write_text("0")),
)


def inherited(pid: int = 0) -> tuple[str, ...]:
    """What is not as planned in that process, in words. Default: in this thread, whose children inherit it."""
    return tuple(each.name for each in _ATTRIBUTES if not _is_planned(each, pid))


def as_planned(pid: int) -> None:
    """Set everything in that process, which has one thread and no children, as far as the kernel allows it."""
    for each in _ATTRIBUTES:
        if not _is_planned(each, pid):
            with suppress(OSError):
                each.plan(pid)


def killed_last(pid: int) -> None:
    """Make that process the kernel's last choice when memory is short. Its children inherit that; only root may do it."""
    with suppress(OSError):
        _oom_file(pid).write_text(_LAST_CHOICE)


def _is_planned(attribute: _Attribute, pid: int) -> bool:
    try:
        return attribute.is_planned(pid)
    except OSError:
        return True  # the process has exited, or a container hides it: nothing to set
