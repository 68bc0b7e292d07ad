"""The resource limits of what is launched: those that an instance needs, whatever the caller's own are (getrlimit(2)).

A limit of the caller's that is good enough is left as it is. Otherwise util-linux's prlimit sets it before everything
else that is executed, so that what a shell had set for itself (``ulimit -n 20``, ``ulimit -t 10``) ends no instance.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError

__all__ = ["LIMITS", "Limit", "limited", "unmet_limits"]

_ANY: Final = resource.RLIM_INFINITY
_MIB: Final = 1024 * 1024
_CAP_SYS_RESOURCE: Final = 1 << 24  # linux/capability.h


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: the least that will do, what is set otherwise, and what it is of, in the words of /proc/PID/limits."""

    number: int
    option: str
    least: int
    wanted: int
    what: str

    def holds(self, soft: int) -> bool:
        """Whether that soft limit will do. For core dumps nothing but 0 does: they hold the guest's memory."""
        if self.wanted == 0:
            return soft == 0
        return soft == _ANY or (self.least != _ANY and soft >= self.least)


LIMITS: Final = (
    Limit(resource.RLIMIT_CORE, "core", 0, 0, "core file size"),
    Limit(resource.RLIMIT_NOFILE, "nofile", 1024, 16384, "open files"),
    Limit(resource.RLIMIT_MEMLOCK, "memlock", 8 * _MIB, 8 * _MIB, "locked memory"),
    Limit(resource.RLIMIT_STACK, "stack", 8 * _MIB, 8 * _MIB, "stack size"),
    Limit(resource.RLIMIT_NPROC, "nproc", 4096, _ANY, "processes"),
    Limit(resource.RLIMIT_CPU, "cpu", _ANY, _ANY, "cpu time"),
    Limit(resource.RLIMIT_FSIZE, "fsize", _ANY, _ANY, "file size"),
    Limit(resource.RLIMIT_AS, "as", _ANY, _ANY, "address space"),
    Limit(resource.RLIMIT_DATA, "data", _ANY, _ANY, "data size"),
)


def limited(
    current: Callable[[int], tuple[int, int]] = resource.getrlimit, *, privileged: bool | None = None
) -> tuple[str, ...]:
    """What a command has to begin with so that it runs with `LIMITS`; nothing when those of the caller will do.

    Raises `NodeError` when a hard limit is too low and we may not raise it.
    """
    own = [(limit, *current(limit.number)) for limit in LIMITS]
    wrong = [(limit, hard) for limit, soft, hard in own if not limit.holds(soft)]
    if not wrong:
        return ()
    may_raise = _may_raise() if privileged is None else privileged
    options = []
    for limit, hard in wrong:
        if may_raise or limit.wanted == 0 or _reaches(hard, limit.wanted):
            options.append(f"--{limit.option}={_word(limit.wanted)}:{_word(_larger(hard, limit.wanted))}")
        elif limit.holds(hard):
            options.append(f"--{limit.option}={_word(hard)}:{_word(hard)}")
        else:
            what = f"limit of {limit.what}: {hard} is too low for any instance, at least {_word(limit.least)}"
            raise NodeError(f"{what}; raise it (ulimit, limits.conf), or start it with more rights")
    return ("prlimit", *options, "--")


def _may_raise() -> bool:
    """Whether we may raise hard limits: not every root may, those of containers seldom."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & _CAP_SYS_RESOURCE)


def unmet_limits(pid: int) -> list[str]:
    """Which of `LIMITS` do not hold for the process, in words. Empty is good."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text()
    except OSError as error:
        return [f"/proc/{pid}: its limits cannot be read ({error.strerror})"]
    found = []
    for limit in LIMITS:
        line = next(line for line in text.splitlines() if line.startswith(f"Max {limit.what} "))
        soft = line.removeprefix(f"Max {limit.what}").split()[0]
        if not limit.holds(_ANY if soft == "unlimited" else int(soft)):
            found.append(f"limit of {limit.what} is {soft}")
    return found


def _reaches(hard: int, wanted: int) -> bool:
    return hard == _ANY or (wanted != _ANY and hard >= wanted)


def _larger(hard: int, wanted: int) -> int:
    return hard if wanted == 0 or _reaches(hard, wanted) else wanted


def _word(value: int) -> str:
    return "unlimited" if value == _ANY else str(value)
