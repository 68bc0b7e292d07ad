"""The user that a confined process runs as, and a range of uids for the users inside an instance."""

from __future__ import annotations

import pwd
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hvcore.errors import NodeError, OperationError, Problem
from hvcore.host.confinement.namespaces import UID_RANGE_SIZE, uid_ranges
from hvcore.host.uids import UidClaims
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import Identity, UidRange
from hvcore.model.sandbox import AsUser, Level
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn, give_back
from hvcore.resources.owner import Owner, Site

__all__ = ["UID_KINDS", "IdentityKind", "UidRangeKind", "user_problem"]

_UID: Final = "uid"
_RANGE: Final = "uid-range"
UID_KINDS: Final = (_UID, _RANGE)
"""The kinds of reservations whose keys are uids of the node."""


def user_problem(name: str) -> str | None:
    """Why a guest cannot run as that user of the node; None when it can."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return "is not a user of this node"
    return "is root, which a guest never runs as" if found.pw_uid == 0 else None


class IdentityKind(ResourceKind[Identity, AsUser | None], name=_UID, turn=Turn.WHO):
    """A named user, or a uid of the pool. At levels other than strict, most processes keep the caller's uid."""

    def verify(self, resource: Identity, site: Site) -> Iterator[Problem]:
        """The user must exist and must not be root."""
        if resource.user is not None and (what := user_problem(resource.user)) is not None:
            todo = "create the user, or name another" if what.startswith("is not") else "name another"
            yield Problem(path=resource.where, what=what, got=repr(resource.user), todo=todo)

    def describe(self, resource: Identity, site: Site) -> Iterator[Step]:
        """The user, or the pool that a uid is taken from."""
        if _has_uid(resource, site):
            pool, whose = site.host.uid_pool, "guest" if resource.key == "uid" else "program"
            taken = f"take a uid from {pool.start} to {pool.stop - 1} that no other {whose} has"
            yield Step(kind="uid", what=taken if resource.user is None else f"run as the user {resource.user}")

    def placeholder(self, resource: Identity, site: Site) -> AsUser | None:
        """None: a command line does not show a uid."""
        return None

    def entry(self, resource: Identity, site: Site) -> Mapping[str, Any] | None:
        """A uid of the pool is reserved; a named user is not."""
        return {} if _has_uid(resource, site) and resource.user is None else None

    def acquire(self, resource: Identity, held: Held) -> AsUser | None:
        """The user, by name or from the pool. Raises `NodeError` when the whole pool is taken."""
        if not _has_uid(resource, held.site):
            return None
        if resource.user is not None:
            if (problem := user_problem(resource.user)) is not None:
                what = f"{held.owner.name}: {resource.where} {problem}, got {resource.user!r}"
                raise OperationError(f"{what}; name another")
            found = pwd.getpwnam(resource.user)
            return AsUser(found.pw_uid, found.pw_gid)
        pool = held.site.host.uid_pool
        uid = _take(resource.key, _UID, pool, held)
        if uid is None:
            raise NodeError(f"uid pool {pool.start}-{pool.stop - 1}: all {len(pool)} are taken; stop an instance first")
        return AsUser(uid)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Free the uid."""
        give_back(_UID, entry, owner)


def _has_uid(resource: Identity, site: Site) -> bool:
    return site.level is Level.STRICT or (resource.at_any_level and site.host.privileged)


class UidRangeKind(ResourceKind[UidRange, range], name=_RANGE, turn=Turn.WHO, in_ledger=True):
    """65536 uids for the users inside an instance."""

    def verify(self, resource: UidRange, site: Site) -> Iterator[Problem]:
        """In a container the uids of the node may not be available."""
        if not uid_ranges():
            what = "is not possible, this node gives hvcore no uids for the users of the instance"
            yield Problem(path=resource.where, what=what, todo="run hvcore outside of a container, or set it to 'off'")

    def describe(self, resource: UidRange, site: Site) -> Iterator[Step]:
        """One step: the range is taken."""
        yield Step(kind="uids", what="65536 uids of the node for its users, used by no other instance")

    def placeholder(self, resource: UidRange, site: Site) -> range:
        """The first range."""
        return range(UID_RANGE_SIZE)

    def acquire(self, resource: UidRange, held: Held) -> range:
        """A range. Raises `NodeError` when every range of the node is taken."""
        ranges = uid_ranges()
        first = _take(resource.key, _RANGE, ranges, held)
        if first is None:
            raise NodeError(f"uid ranges: all {len(ranges)} of this node are taken; stop an instance first")
        return range(first, first + UID_RANGE_SIZE)

    def release(self, entry: Entry, owner: Owner) -> None:
        """Free the range."""
        give_back(_RANGE, entry, owner)


def _take(key: str, kind: str, pool: range, held: Held) -> int | None:
    """A number of the pool. Every launched program inherits its lock: it changes to that uid only later."""
    host, between = held.site.host, held.site.between
    uids = None if between is None else between.uids
    claims = UidClaims(host.run_dir, f"{held.owner.name}/{key}", node_wide=host.privileged, between=uids)
    held.at_end(claims.close)
    number = claims.take_one(kind, pool)
    for fd in claims.fds:
        held.share(fd)
    return number
