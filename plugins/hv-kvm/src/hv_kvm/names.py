"""Names by which the parts of a guest find each other again: its files, and what its record says of it.

Apart from the families that make them, so that a look at a guest does not import those.
"""

from __future__ import annotations

from typing import Final

__all__ = ["COMMANDS", "COMPANIONS", "EVENTS", "PIDFILE", "RECOVERY", "SERIAL", "VNC"]

# Files in the instance's directory, the last three of them in the guest's own.
COMMANDS: Final = "qmp"
RECOVERY: Final = "qmp-oob"
SERIAL: Final = "serial"
EVENTS: Final = "events"
PIDFILE: Final = "qemu.pid"
VNC: Final = "vnc.sock"

# Of the record's bindings: uid and process of each program beside QEMU.
COMPANIONS: Final = "companions"
