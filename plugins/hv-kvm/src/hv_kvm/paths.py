"""The files of one guest, and the names by which its devices and everything else find them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = [
    "AGENT",
    "COMMANDS",
    "EVENTS",
    "MIGRATION",
    "PIDFILE",
    "RECOVERY",
    "SERIAL",
    "SERIAL_LOG",
    "VNC",
    "GuestPaths",
]

# In the instance's directory.
COMMANDS: Final = "qmp"
RECOVERY: Final = "qmp-oob"
SERIAL: Final = "serial"
AGENT: Final = "qga"
SERIAL_LOG: Final = "serial.log"
# In the guest's own.
EVENTS: Final = "events"
MIGRATION: Final = "migration"  # and the route of a stream: sockets between QEMU and its relay
PIDFILE: Final = "qemu.pid"
VNC: Final = "vnc.sock"


class GuestPaths:
    """The paths below ``directory``, the instance's. Only ``guest`` is shown to QEMU, and belongs to the guest's uid."""

    def __init__(self, directory: Path) -> None:
        self.guest = directory / "guest"
        # Sockets: QMP for commands, a second one that is kept free, the serial console, the guest agent.
        self.commands = directory / COMMANDS
        self.recovery = directory / RECOVERY
        self.serial = directory / SERIAL
        self.agent = directory / AGENT
        # The end of what the guest wrote to it.
        self.serial_log = directory / SERIAL_LOG
        # The FIFO that starts the monitor of the event journal, and the journal, which QEMU writes.
        self.events_in = self.guest / f"{EVENTS}.in"
        self.journal = self.guest / f"{EVENTS}.out"
        # Locked by QEMU for its whole life.
        self.pidfile = self.guest / PIDFILE
        self.vnc = self.guest / VNC
