"""The ways to reach an instance's console or display, as typed records."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from hvcore.frozen import dataclass

__all__ = ["ConsoleAddress", "ConsoleKind"]


class ConsoleKind(StrEnum):
    """``serial``: text, `hv console` connects to it. ``command``: text of a program inside. ``vnc``, ``spice``: graphics.

    ``message``: there is no console, and the message says why.
    """

    SERIAL = "serial"
    COMMAND = "command"
    VNC = "vnc"
    SPICE = "spice"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleAddress:
    """One way to reach an instance on this node: a TCP port at ``host``, or a Unix ``socket``.

    ``tls``: the connection is encrypted. ``password``: a client has to know one. ``message`` is for people.
    """

    kind: ConsoleKind
    host: str | None = None
    port: int | None = None
    socket: str | None = None
    tls: bool = False
    password: bool = False
    message: str | None = None

    @property
    def uri(self) -> str | None:
        """The address as viewers take it, such as ``vnc://127.0.0.1:5900``; None for a socket and for text."""
        if self.host is None or self.port is None or self.kind not in {ConsoleKind.VNC, ConsoleKind.SPICE}:
            return None
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.kind is ConsoleKind.SPICE and self.tls:
            return f"spice://{host}?tls-port={self.port}"
        return f"{self.kind}://{host}:{self.port}"

    def to_json(self) -> dict[str, Any]:
        """The address as plain JSON types, with its ``uri``."""
        facts = {"host": self.host, "port": self.port, "socket": self.socket, "uri": self.uri}
        return {
            "kind": str(self.kind),
            **facts,
            "tls": self.tls,
            "password": self.password,
            "message": self.message,
        }
