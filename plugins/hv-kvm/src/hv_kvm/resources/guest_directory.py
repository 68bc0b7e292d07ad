"""The guest's directory, the only one that QEMU may write to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from hv_kvm.machine.resource import GUEST_USER, GuestDir, GuestDirectory
from hv_kvm.paths import GuestPaths
from hv_kvm.resources.left_behind import has_foreign_file, quarantine
from hvcore.plugin import AsUser, Entry, Held, Level, Owner, ResourceKind, Site, Turn

__all__ = ["GUEST_DIR", "GuestDirectoryKind", "make_guest_dir"]

# Its path inside the sandbox: at the top, because only root could enter directories above it.
GUEST_DIR: Final = "/guest"


class GuestDirectoryKind(ResourceKind[GuestDirectory, GuestDir], name="guest-directory", turn=Turn.WHO):
    """In the instance's directory, which is removed as a whole. A release first keeps the files that QEMU left there."""

    def placeholder(self, resource: GuestDirectory, site: Site) -> GuestDir:
        """Its path in the sandbox; without a sandbox, symbols for its path in the instance's directory."""
        if site.level is Level.OFF:
            return GuestDir(path="{instance}/guest", sockets="/proc/self/fd/{fd:guest}")
        return GuestDir(path=GUEST_DIR, sockets=GUEST_DIR)

    def entry(self, resource: GuestDirectory, site: Site) -> Mapping[str, Any]:
        """Nothing but its key."""
        return {}

    def acquire(self, resource: GuestDirectory, held: Held) -> GuestDir:
        """Make the directory, with the event journal prepared."""
        paths = GuestPaths(held.owner.dir)
        # A FIFO keeps its data only while it is open: until QEMU has opened it.
        held.keep(make_guest_dir(paths, held[GUEST_USER]))
        if held.site.level is not Level.OFF:
            return GuestDir(path=GUEST_DIR, sockets=GUEST_DIR)
        # By descriptor: the directory's own name may be too long for a socket's address, or have '=' in it.
        place = held.add(os.open(paths.guest, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return GuestDir(path=str(paths.guest), sockets=f"/proc/self/fd/{place}")

    def release(self, entry: Entry, owner: Owner) -> None:
        """Move the directory aside if it has a file that is not ours. A full file system has room for that."""
        paths = GuestPaths(owner.dir)
        if has_foreign_file(paths.guest, (paths.journal.name, paths.pidfile.name)):
            kept = quarantine(owner.host.run_dir, owner.name, paths.guest)
            owner.bind(quarantined=str(kept))


def make_guest_dir(paths: GuestPaths, user: AsUser | None) -> int:
    """Make the directory with its event journal, owned by ``user``; returns the open descriptor of the FIFO."""
    paths.guest.mkdir(mode=0o700)
    os.mkfifo(paths.events_in, 0o600)
    paths.journal.touch(mode=0o600, exist_ok=False)
    if user is not None:
        for path in (paths.guest, paths.events_in, paths.journal):
            os.chown(path, user.uid, user.uid)
    fifo = os.open(paths.events_in, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    os.write(fifo, b'{"execute": "qmp_capabilities"}\n')
    return fifo
