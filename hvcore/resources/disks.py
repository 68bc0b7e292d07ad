"""Disks: the right to be the only user of one on the node, or one of its readers, and the mounts of an instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from hvcore.errors import DiskInUse, DiskInUseError, LeftoverError, Problem
from hvcore.host.disks.disk_claims import DISK, DiskClaims
from hvcore.host.disks.wait_unused import wait_unused
from hvcore.host.mount_table import unmount_below
from hvcore.host.processes.process import boot_id
from hvcore.model.plan import Step
from hvcore.model.record import Entry, Record
from hvcore.model.resource import DiskClaim, Mounts, Resource
from hvcore.resources.held import Held
from hvcore.resources.instance_process import end_members
from hvcore.resources.kind import ResourceKind, Turn, give_back
from hvcore.resources.owner import Owner, Site

__all__ = ["DiskClaimKind", "MountsKind", "claim_disk", "claimed", "claims_in", "disk_in_use", "release_disk"]

_LET_GO_S: Final = 3.0
_LET_GO_AT_MOST_S: Final = 10.0


class DiskClaimKind(ResourceKind[DiskClaim, tuple[str, ...]], name=DISK, turn=Turn.FILE):
    """A claim without anything opened: of a network disk, of a directory, of a disk that is mounted."""

    def verify(self, resource: DiskClaim, site: Site) -> Iterator[Problem]:
        """No other instance and no mount may use the disk. Another check reports one that does not exist."""
        yield from disk_in_use(resource, resource.path, site, write=resource.write, lock=resource.lock)

    def describe(self, resource: DiskClaim, site: Site) -> Iterator[Step]:
        """Which disk is claimed, and how."""
        yield Step(kind="file", what=f"claim {resource.path} {'read-write' if resource.write else 'read-only'}")

    def placeholder(self, resource: DiskClaim, site: Site) -> tuple[str, ...]:
        """Empty: a claim without an open file is not part of a command line."""
        return ()

    def entry(self, resource: DiskClaim, site: Site) -> Mapping[str, Any]:
        """What a reboot claims again before its stop."""
        return claimed(resource.path, write=resource.write) if resource.lock else {}

    def acquire(self, resource: DiskClaim, held: Held) -> tuple[str, ...]:
        """Claim the disk. Raises `DiskInUseError` naming the holder, and OSError when there is no such disk."""
        return claim_disk(resource.path, resource.key, held, write=resource.write, lock=resource.lock)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Free the disk for other instances."""
        release_disk(entry, owner)


def disk_in_use(resource: Resource[Any], path: str, site: Site, *, write: bool, lock: bool = True) -> Iterator[Problem]:
    """The problem of a disk that `claim_disk` would refuse now. Claims nothing."""
    try:
        claims = DiskClaims(site.host.run_dir, f"{site.name}/{resource.key}", arriving=site.host.arriving)
        claims.refuse_used(path, read_only=not write, lock=lock)
    except DiskInUseError as error:
        yield DiskInUse.at(resource.where, error)
    except OSError:
        return  # it does not exist, or cannot be read


def claim_disk(path: str, key: str, held: Held, *, write: bool, lock: bool = True) -> tuple[str, ...]:
    """Become the disk's only user or one of its readers, for the resource ``key``. Its ledger entry must exist.

    The claim holds until the launched program, which inherits its descriptors, exits. A program in a sandbox with a
    reaper does not inherit them: there, only a mount of the disk shows that it is in use.
    Raises `DiskInUseError` naming the holder, and OSError when there is no such disk.
    """
    host, between = held.site.host, held.site.between
    kept = None if between is None else between.disks
    claims = DiskClaims(host.run_dir, f"{held.owner.name}/{key}", kept, arriving=host.arriving)
    held.at_end(claims.close)
    claims.take(path, read_only=not write, lock=lock)
    return tuple(map(held.lend, claims.fds))


def claimed(path: str, *, write: bool) -> Mapping[str, Any]:
    """The data of a ledger entry for a disk that `claim_disk` locks: a reboot holds it from its stop to its start."""
    return {"claims": {"path": path, "write": write}}


def claims_in(record: Record) -> Iterator[tuple[str, bool]]:
    """The path of each disk that the ledger says is claimed, and whether it is only read."""
    for entry in record.ledger:
        claim = entry.data.get("claims")
        if isinstance(claim, dict) and isinstance(claim.get("path"), str):
            yield claim["path"], claim.get("write") is not True


def release_disk(entry: Entry, owner: Owner) -> None:
    """Give back the claims of the entry's resource."""
    give_back(DISK, entry, owner)


class MountsKind(ResourceKind[Mounts, None], name="mount", turn=Turn.FILE):
    """The driver mounts after this is acquired; one ledger entry means all of its mounts."""

    def entry(self, resource: Mounts, site: Site) -> Mapping[str, Any]:
        """The disk that must be unused afterwards."""
        if resource.disk is None:
            return {}
        return {"disk": resource.disk, "shared": True} if resource.shared else {"disk": resource.disk}

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
        if "disk" not in entry.data:
            return
        # Also when an earlier try has unmounted it: a disk that is still in use has not been released.
        disk, allowed_s = entry.data["disk"], owner.deadline.left(_LET_GO_AT_MOST_S, at_least=_LET_GO_S)
        if not entry.data.get("shared"):
            wait_unused(disk, allowed_s)
        elif not DiskClaims(owner.host.run_dir, owner.name).read_by_others(disk):
            with suppress(LeftoverError):  # nothing was written, so only a next start has to wait for it
                wait_unused(disk, allowed_s)
