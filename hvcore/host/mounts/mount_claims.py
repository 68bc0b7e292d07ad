"""A directory's one user on the whole node, whichever run directory that belongs to: its mount is the claim.

A directory that an instance takes as a whole is mounted in the instance's own directory for as long as the instance
holds it. So the kernel's table says who has which, and forgets it with the mount: nothing is inherited by what runs in
there, and a crash leaves nothing that has to be told from the living.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

from hvcore.errors import DiskInUseError, NodeError
from hvcore.host.mounts.mount_table import Mount, mounts
from hvcore.model.record import RECORD_FILE

__all__ = ["claim_mount", "other_users"]

_INSTANCES: Final = "instances"  # RUN_DIR/instances/NAME/anything
_DELETED: Final = "//deleted"  # what the kernel adds to a path that leads nowhere any more


def claim_mount(path: str, point: str) -> None:
    """Be the one user of the directory ``path``, which has just been mounted at ``point`` in an instance's directory.

    Raises `DiskInUseError` naming the instance that has mounted it, a directory in it or one that it is in, another one or
    this one a second time; readers share. The mount is then still there: it comes first, so that of two at the same
    moment at least one sees the other.
    """
    for other in other_users(mounts(), os.path.realpath(point)):
        # An operator may keep roots in a directory of that shape too, and mount them there himself.
        if os.path.lexists(PurePath(other.point).parent / RECORD_FILE):
            raise DiskInUseError(path=path, holder=_named(other))


def other_users(table: list[Mount], point: str) -> Iterator[Mount]:
    """What looks like mounts of instances and shares what is at ``point``, as far as one of the two writes to it."""
    own = [mount for mount in table if mount.point == point]
    if not own:
        raise NodeError(
            f"{point!r}: is not among the mounts of this process, where it has just been mounted; try again"
        )
    for other in table:
        if other.point != point and _of_an_instance(other) and any(_share(mount, other) for mount in own):
            yield other


def _of_an_instance(mount: Mount) -> bool:
    parts = PurePath(mount.point).parts
    return len(parts) > 3 and parts[-3] == _INSTANCES


def _share(one: Mount, other: Mount) -> bool:
    if one.device != other.device or (one.read_only and other.read_only):
        return False
    if one.root.endswith(_DELETED) or other.root.endswith(_DELETED):
        return False
    return _within(one.root, other.root) or _within(other.root, one.root)


def _within(inner: str, outer: str) -> bool:
    return f"{inner}/".startswith(f"{outer.rstrip('/')}/")


def _named(mount: Mount) -> str:
    directory = PurePath(mount.point).parent
    return f"instance {directory.name} of run directory {directory.parent.parent}, mounted at {mount.point}"
