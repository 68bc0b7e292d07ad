"""A file that QEMU opens by its path, read-only: a kernel, or what libraries look for in one place."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator

from hv_kvm.machine.resource import GUEST_USER, Shown, ShownFile
from hv_kvm.paths import GuestPaths
from hvcore.plugin import Held, Level, Problem, ResourceKind, Site, Turn

__all__ = ["ShownFileKind"]


class ShownFileKind(ResourceKind[ShownFile, Shown], name="shown-file", turn=Turn.FILE):
    """The file itself, or a copy in the guest's directory when the guest's user may not read it."""

    def verify(self, resource: ShownFile, site: Site) -> Iterator[Problem]:
        """What is there has to be a regular file. That it is there at all is checked with its parameter."""
        if os.path.exists(resource.path) and not os.path.isfile(resource.path):
            what = "is not a regular file; QEMU could wait for ever to read it"
            yield Problem(path=resource.key, what=what, got=repr(resource.path))

    def placeholder(self, resource: ShownFile, site: Site) -> Shown:
        """Where QEMU will see it."""
        return Shown(path=_seen(resource, site), source=resource.path)

    def acquire(self, resource: ShownFile, held: Held) -> Shown:
        """The file, or the copy. Raises OSError when it cannot be read."""
        user, source = held[GUEST_USER], resource.path
        there = not resource.optional or os.path.exists(resource.path)
        if there and user is not None and not os.stat(resource.path).st_mode & stat.S_IROTH:
            copy = GuestPaths(held.owner.dir).guest / f"copy-of-{resource.key}"
            shutil.copyfile(resource.path, copy)
            os.chmod(copy, 0o400)
            os.chown(copy, user.uid, user.uid)
            source = str(copy)
        path = source if held.site.level is Level.OFF else resource.inside
        return Shown(path=path, source=source)


def _seen(resource: ShownFile, site: Site) -> str:
    return resource.path if site.level is Level.OFF else resource.inside
