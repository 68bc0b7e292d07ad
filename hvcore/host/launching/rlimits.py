"""The resource limits of launched processes (getrlimit(2)), regardless of the caller's.

A sufficient limit of the caller stays. Otherwise util-linux's prlimit sets it before anything else is executed, so that
the limits of a shell (``ulimit -n 20``, ``ulimit -t 10``) end no instance.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hvcore.errors import NodeError
from hvcore.frozen import dataclass

__all__ = ["LIMITS", "Limit", "forbid_core_dumps", "unmet_limits", "with_largest_file", "with_limits"]

_ANY: Final = resource.RLIM_INFINITY
_MIB: Final = 1024 * 1024
_CAP_SYS_RESOURCE: Final = 1 << 24  # linux/capability.h


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: the least sufficient value, the value to set otherwise, and its name in /proc/PID/limits."""

    number: int
    option: str
    least: int
    wanted: int
    what: str

    def holds(self, soft: int) -> bool:
        """Whether that soft limit is sufficient. For core dumps only 0 is: they contain the guest's memory."""
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


def with_limits(
    current: Callable[[int], tuple[int, int]] = resource.getrlimit,
    *,
    privileged: bool | None = None,
    final: bool = False,
) -> tuple[str, ...]:
    """The prefix of a command that must have `LIMITS`; empty if the caller's are sufficient.

    With ``final``, the command cannot allow itself core dumps later; otherwise the caller sees to it with
    `forbid_core_dumps`. Raises `NodeError` if a hard limit is too low and we may not raise it.
    """
    own = [(limit, *current(limit.number)) for limit in LIMITS]
    wrong = [
        (limit, hard) for limit, soft, hard in own if not limit.holds(hard if final and not limit.wanted else soft)
    ]
    if not wrong:
        return ()
    may_raise = _may_raise() if privileged is None else privileged
    options = []
    for limit, hard in wrong:
        enough = hard == _ANY or (limit.wanted != _ANY and hard >= limit.wanted)
        if limit.wanted == 0:
            options.append(f"--{limit.option}=0:0")
        elif may_raise or enough:
            options.append(f"--{limit.option}={_text(limit.wanted)}:{_text(hard if enough else limit.wanted)}")
        elif limit.holds(hard):
            options.append(f"--{limit.option}={_text(hard)}:{_text(hard)}")
        else:
            what = f"limit of {limit.what}: must be at least {_text(limit.least)}, got {hard}"
            raise NodeError(f"{what}; raise it (ulimit, limits.conf), or start the instance as root")
    return ("prlimit", *options, "--")


def with_largest_file(size_bytes: int | None) -> tuple[str, ...]:
    """The prefix of a command that may make no file larger, if that is not None. A write beyond it fails with EFBIG.

    The signal that would end the program is ignored, which only a program itself can change.
    """
    if size_bytes is None:
        return ()
    return ("env", "--ignore-signal=XFSZ", "prlimit", f"--fsize={size_bytes}:{size_bytes}", "--")


def forbid_core_dumps(pid: int) -> None:
    """Set the hard limit of that child's core dumps, which contain the guest's memory. Its own children inherit it."""
    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def _may_raise() -> bool:
    """Whether we may raise hard limits: root in a container often may not."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) & _CAP_SYS_RESOURCE)


def unmet_limits(pid: int) -> list[str]:
    """The limits of the process that are not sufficient, in words. Empty is good."""
    try:
        text = Path(f"/proc/{pid}/limits").read_text()
    except OSError as error:
        return [f"/proc/{pid}: its limits cannot be read ({error.strerror})"]
    found = dict(re.findall(r"^Max (.+?) {2,}(\S+)", text, re.MULTILINE))
    soft = {limit: found[limit.what] for limit in LIMITS}
    unmet = (limit for limit in LIMITS if not limit.holds(_ANY if soft[limit] == "unlimited" else int(soft[limit])))
    return [f"limit of {limit.what} is {soft[limit]}" for limit in unmet]


def _text(value: int) -> str:
    return "unlimited" if value == _ANY else str(value)
