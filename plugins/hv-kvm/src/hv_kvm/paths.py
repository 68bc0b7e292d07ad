"""The files of one guest in its instance's directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hv_kvm.names import COMMANDS, EVENTS, PIDFILE, RECOVERY, SERIAL, VNC

__all__ = ["GuestPaths"]


@dataclass(frozen=True, slots=True)
class GuestPaths:
    """``directory`` is the instance's own; only ``guest`` below it is shown to QEMU, and belongs to the guest's uid."""

    directory: Path

    @property
    def guest(self) -> Path:
        """What QEMU may write to."""
        return self.directory / "guest"

    @property
    def commands(self) -> Path:
        """The QMP socket for commands."""
        return self.directory / COMMANDS

    @property
    def recovery(self) -> Path:
        """The QMP socket that is kept free."""
        return self.directory / RECOVERY

    @property
    def serial(self) -> Path:
        """The serial console's socket."""
        return self.directory / SERIAL

    @property
    def events_in(self) -> Path:
        """The FIFO that put the journal's monitor to work."""
        return self.guest / f"{EVENTS}.in"

    @property
    def journal(self) -> Path:
        """The journal of events, written by QEMU."""
        return self.guest / f"{EVENTS}.out"

    @property
    def pidfile(self) -> Path:
        """The file that QEMU holds a lock on for life."""
        return self.guest / PIDFILE

    @property
    def vnc(self) -> Path:
        """The display's unix socket."""
        return self.guest / VNC
