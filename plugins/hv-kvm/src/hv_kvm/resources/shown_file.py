"""A file of the node that QEMU opens by path, such as a kernel."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from hv_kvm.machine.resource import GUEST_USER, Shown, ShownFile
from hv_kvm.paths import GuestPaths
from hv_kvm.resources.left_behind import unlink_inside
from hvcore.plugin import Entry, Held, Level, Owner, Problem, ResourceKind, Site, Turn

__all__ = ["ShownFileKind"]


class ShownFileKind(ResourceKind[ShownFile, Shown], name="shown-file", turn=Turn.FILE):
    """The file itself, or a copy in the guest's directory when the guest's user may not read it."""

    def entry(self, resource: ShownFile, site: Site) -> Mapping[str, Any]:
        """The name that a copy would have."""
        return {"name": f"copy-of-{resource.key}"}

    def verify(self, resource: ShownFile, site: Site) -> Iterator[Problem]:
        """A file that exists must be a regular one. That it exists is checked with its parameter."""
        if os.path.exists(resource.path) and not os.path.isfile(resource.path):
            what = "is not a regular file; QEMU could hang when it reads it"
            yield Problem(path=resource.key, what=what, got=repr(resource.path))

    def placeholder(self, resource: ShownFile, site: Site) -> Shown:
        """The path by which QEMU will open it."""
        return Shown(path=resource.path if site.level is Level.OFF else resource.inside, source=resource.path)

    def acquire(self, resource: ShownFile, held: Held) -> Shown:
        """The file, or the copy. Raises OSError when it cannot be read."""
        user, source = held[GUEST_USER], resource.path
        there = not resource.optional or os.path.exists(source)
        if there and user is not None and not os.stat(source).st_mode & stat.S_IROTH:
            source = str(GuestPaths(held.owner.dir).guest / f"copy-of-{resource.key}")
            shutil.copyfile(resource.path, source)
            os.chmod(source, 0o400)
            os.chown(source, user.uid, user.uid)
        return Shown(path=source if held.site.level is Level.OFF else resource.inside, source=source)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Remove the copy, if there is one."""
        unlink_inside(GuestPaths(owner.dir).guest, entry.data["name"])
