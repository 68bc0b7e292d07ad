"""Everything that is mounted below an instance's directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hvcore.errors import LeftoverError
from hvcore.host.disks.disk_identity import wait_unused
from hvcore.host.mount_table import unmount_below
from hvcore.host.processes.process import boot_id
from hvcore.model.record import Entry
from hvcore.model.resource import Mounts
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.main_process import end_members
from hvcore.resources.owner import Owner, Site

__all__ = ["MountsKind"]

_LET_GO_S: Final = 3.0


class MountsKind(ResourceKind[Mounts, None], name="mount", turn=Turn.FILE):
    """The driver mounts after this is acquired; one ledger entry means all of its mounts."""

    def entry(self, resource: Mounts, site: Site) -> Mapping[str, Any]:
        """The disk that must be unused afterwards."""
        return {} if resource.disk is None else {"disk": resource.disk}

    def acquire(self, resource: Mounts, held: Held) -> None:
        """Only the entry: from now on the driver may mount."""

    def release(self, entry: Entry, owner: Owner) -> None:
        """Unmount everything below the instance's directory, and wait until the disk is unused."""
        directory = str(owner.dir.resolve())
        try:
            unmount_below(directory)
        except LeftoverError:
            # A process that was between fork and exec when its starter died was not known as ours before; now it is.
            if owner.record.boot_id != boot_id() or not end_members(owner.name, owner.dir):
                raise
            unmount_below(directory)
        if "disk" in entry.data:
            # Also when an earlier try has unmounted it: a disk that is still in use has not been released.
            wait_unused(entry.data["disk"], _LET_GO_S)
