"""The methods of a driver for the buttons and the keyboard of a machine, each with its Protocol, as in `protocols`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from hvcore.host.environment import Live
from hvcore.state.job import Job

__all__ = ["PowersDown", "Resets", "SendsKeys", "SendsNmi"]


@runtime_checkable
class Resets(Protocol):
    """The driver can reset the machine of an instance."""

    def reset(self, live: Live, job: Job) -> None:
        """Reset the machine at once, and return when that is done. A paused one stays paused."""


@runtime_checkable
class PowersDown(Protocol):
    """The instance has a power button."""

    def powerdown(self, live: Live, job: Job) -> None:
        """Press the power button, and return. Raises `UnsupportedError` for a machine without one."""


@runtime_checkable
class SendsKeys(Protocol):
    """The instance has a keyboard."""

    def send_keys(self, live: Live, job: Job, keys: tuple[tuple[str, ...], ...]) -> None:
        """Press each combination of keys, one after the other. Raises `InputError` for an unknown key before any."""


@runtime_checkable
class SendsNmi(Protocol):
    """The driver can send a non-maskable interrupt to an instance."""

    def nmi(self, live: Live, job: Job) -> None:
        """Send it. Raises `UnsupportedError` for a machine without such interrupts."""
