"""The limits of a control group, as values. Pure."""

from __future__ import annotations

from typing import ClassVar, Final

from hvcore.frozen import dataclass

__all__ = ["LIMITED", "NO_LIMITS", "GroupLimits"]

LIMITED: Final = ("memory", "cpu", "pids")
"""The controllers that limit something, in the order of `GroupLimits`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """The most that an instance may use, None without limit.

    ``memory_bytes`` is memory and swap together, ``cpus`` a multiple of one CPU (1.5 is one and a half), ``processes``
    counts every thread, and ``own_processes`` of hvcore: the init, and the process that waits for the script.
    """

    own_processes: ClassVar[int] = 2
    memory_bytes: int | None = None
    cpus: float | None = None
    processes: int | None = None

    def controllers(self) -> tuple[str, ...]:
        """The controllers that these limits need."""
        values = (self.memory_bytes, self.cpus, self.processes)
        return tuple(name for name, value in zip(LIMITED, values, strict=True) if value is not None)


NO_LIMITS: Final = GroupLimits()
