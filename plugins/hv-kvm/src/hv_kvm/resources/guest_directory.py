"""The one directory that QEMU may write to, with the event journal that it writes."""

from __future__ import annotations

import os
from typing import Final

from hv_kvm.machine.resource import GUEST_USER, GuestDir, GuestDirectory
from hv_kvm.paths import GuestPaths
from hvcore.plugin import AsUser, Held, Level, ResourceKind, Site, Turn

__all__ = ["GUEST_DIR", "GuestDirectoryKind", "make_guest_dir"]

# Where it is inside the sandbox: at the top, because directories on the way would be root's alone.
GUEST_DIR: Final = "/guest"


class GuestDirectoryKind(ResourceKind[GuestDirectory, GuestDir], name="guest-directory", turn=Turn.WHO):
    """It is in the instance's directory, which is removed as a whole: the ledger need not know."""

    def placeholder(self, resource: GuestDirectory, site: Site) -> GuestDir:
        """Its place in the sandbox, or symbols for that in the instance's directory."""
        if site.level is Level.OFF:
            return GuestDir(path="{instance}/guest", sockets="/proc/self/fd/{fd:guest}")
        return GuestDir(path=GUEST_DIR, sockets=GUEST_DIR)

    def acquire(self, resource: GuestDirectory, held: Held) -> GuestDir:
        """Make it, with the event journal prepared."""
        paths = GuestPaths(held.owner.dir)
        # The FIFO keeps what is written to it only while it is open: until QEMU has its own end.
        held.keep(make_guest_dir(paths, held[GUEST_USER]))
        if held.site.level is not Level.OFF:
            return GuestDir(path=GUEST_DIR, sockets=GUEST_DIR)
        # By descriptor: the directory's own name may be too long for a socket's address, or have '=' in it.
        place = held.add(os.open(paths.guest, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return GuestDir(path=str(paths.guest), sockets=f"/proc/self/fd/{place}")


def make_guest_dir(paths: GuestPaths, user: AsUser | None) -> int:
    """Make it, with the event journal prepared; the FIFO's descriptor."""
    paths.guest.mkdir(mode=0o700)
    os.mkfifo(paths.events_in, 0o600)
    paths.journal.touch(mode=0o600, exist_ok=False)
    if user is not None:
        for path in (paths.guest, paths.events_in, paths.journal):
            os.chown(path, user.uid, user.uid)
    fifo = os.open(paths.events_in, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(fifo, b'{"execute": "qmp_capabilities"}\n')
    return fifo
