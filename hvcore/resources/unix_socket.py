"""A listening unix socket, made before the program that serves it and passed to it as a descriptor."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

from hvcore.model.plan import Step
from hvcore.model.resource import UnixSocket
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Site

__all__ = ["UnixSocketKind", "listening_socket"]


class UnixSocketKind(ResourceKind[UnixSocket, str], name="socket", turn=Turn.SOCKET):
    """It is in the instance's directory, which is removed as a whole: the ledger need not know."""

    def describe(self, resource: UnixSocket, site: Site) -> Iterator[Step]:
        """Where it listens."""
        yield Step(kind="socket", what=f"listen on {site.dir}/{resource.key}")

    def acquire(self, resource: UnixSocket, held: Held) -> str:
        """The listening socket's descriptor."""
        return held.add(listening_socket(held.owner.dir / resource.key))


def listening_socket(path: Path) -> int:
    """A listening unix socket at the path, of any length, that only the caller can connect to."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
            # Linux gives the name in the file system the mode of the socket; the umask may be anything.
            os.fchmod(made.fileno(), 0o600)
            # The kernel takes 108 bytes for a socket's name; through the descriptor it is short.
            made.bind(f"/proc/self/fd/{directory}/{path.name}")
            made.listen(8)
            return os.dup(made.fileno())
    finally:
        os.close(directory)
