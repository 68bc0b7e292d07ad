"""A QMP client of twenty lines: one command at a time, events left out."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any, Self


def connected(path: Path) -> socket.socket:
    """A connection to the unix socket at that path."""
    directory = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    try:
        made.connect(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    return made


class Qmp:
    """A connection to the monitor at that path, however long the path is."""

    def __init__(self, path: Path) -> None:
        self._socket = connected(path)
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        self._lines.readline()
        self.ask("qmp_capabilities")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, command: str) -> Any:
        """What QEMU returns."""
        self._socket.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while "event" in (said := json.loads(self._lines.readline())):
            pass
        return said["return"]
