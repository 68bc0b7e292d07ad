"""The right to be a disk's only user on the node, or one of its readers."""

from __future__ import annotations

from collections.abc import Iterator

from hvcore.host.disks.disk_claims import DISK, DiskClaims
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import DiskClaim
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn, give_back
from hvcore.resources.owner import Owner, Site

__all__ = ["DiskClaimKind", "claim_disk", "release_disk"]


class DiskClaimKind(ResourceKind[DiskClaim, tuple[str, ...]], name=DISK, turn=Turn.FILE, in_ledger=True):
    """A claim without anything opened: of a network disk, of a directory, of a disk that is mounted."""

    def describe(self, resource: DiskClaim, site: Site) -> Iterator[Step]:
        """Which disk is claimed, and how."""
        yield Step(kind="file", what=f"claim {resource.path} {'read-write' if resource.write else 'read-only'}")

    def placeholder(self, resource: DiskClaim, site: Site) -> tuple[str, ...]:
        """Empty: a claim without an open file is not part of a command line."""
        return ()

    def acquire(self, resource: DiskClaim, held: Held) -> tuple[str, ...]:
        """Claim the disk. Raises `DiskInUseError` naming the holder, and OSError when there is no such disk."""
        return claim_disk(resource.path, resource.key, held, write=resource.write, lock=resource.lock)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Free the disk for other instances."""
        release_disk(entry, owner)


def claim_disk(path: str, key: str, held: Held, *, write: bool, lock: bool = True) -> tuple[str, ...]:
    """Become the disk's only user or one of its readers, for the resource ``key``. Its ledger entry must exist.

    The claim holds until the launched program, which inherits its descriptors, exits. A program in a sandbox with a
    reaper does not inherit them: there, only a mount of the disk shows that it is in use.
    Raises `DiskInUseError` naming the holder, and OSError when there is no such disk.
    """
    claims = DiskClaims(held.site.host.run_dir, f"{held.owner.name}/{key}")
    held.at_end(claims.close)
    claims.take(path, read_only=not write, lock=lock)
    return tuple(map(held.lend, claims.fds))


def release_disk(entry: Entry, owner: Owner) -> None:
    """Give back the claims of the entry's resource."""
    give_back(DISK, entry, owner)
