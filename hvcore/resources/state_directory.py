"""The directory in which a program beside an instance keeps its state from one start to the next.

It belongs to the program's uid while the program runs, and to its former owner afterwards. Its owner never changes while
a program holds the lock on the file in it: that program may belong to another run directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final

from hvcore.errors import DiskInUseError, OperationError, Problem
from hvcore.host.lock import try_lock
from hvcore.host.record_locks import is_locked
from hvcore.model.plan import Step
from hvcore.model.record import Entry
from hvcore.model.resource import StateDirectory
from hvcore.resources.disks import claim_disk, release_disk
from hvcore.resources.held import Held
from hvcore.resources.kind import ResourceKind, Turn
from hvcore.resources.owner import Owner, Site

__all__ = ["StateDirectoryKind"]

_ELSEWHERE: Final = "an instance of another run directory on this node"


class StateDirectoryKind(ResourceKind[StateDirectory, int], name="owner", turn=Turn.PROGRAM):
    """The directory is claimed for one program, and belongs to its uid while the program runs."""

    def verify(self, resource: StateDirectory, site: Site) -> Iterator[Problem]:
        """It must hold only files of the program. The check of the parameter proves that it is a directory."""
        with suppress(OSError):
            if (foreign := _foreign(resource, os.listdir(resource.path))) is not None:
                todo = "name a directory that only this instance uses"
                yield Problem(path=resource.where, what=foreign, got=repr(resource.path), todo=todo)

    def describe(self, resource: StateDirectory, site: Site) -> Iterator[Step]:
        """Which program it is claimed for."""
        program = resource.key.partition(".")[0]
        yield Step(kind="file", what=f"claim {resource.path}, for {program} only, while it runs")

    def placeholder(self, resource: StateDirectory, site: Site) -> int:
        """No descriptor."""
        return -1

    def entry(self, resource: StateDirectory, site: Site) -> Mapping[str, Any]:
        """The directory and the program's files in it. Its former owner is added once it is claimed."""
        return {"path": resource.path, "keeps": [resource.lock, *resource.keeps]}

    def acquire(self, resource: StateDirectory, held: Held) -> int:
        """Claim it and give it to the program's uid. Raises `DiskInUseError`, `OperationError`.

        The descriptor stays open until the operation ends: only then has the program locked the directory itself.
        """
        owner, user = held.owner, held[resource.owner]
        place = _open_directory(resource.path)
        held.keep(place)
        _claim(resource, place, held)
        if user is not None:
            owner.note(resource.key, **_owner_before(place, held.site))
            with _naming(resource, owner.name):
                _chown(place, (resource.lock, *resource.keeps), user.uid, user.group)
        return place

    def release(self, entry: Entry, owner: Owner) -> None:
        """Give the directory and the program's files back to their former owner.

        Does nothing if the directory was removed or if the path now leads to another one.
        """
        if "uid" in entry.data:
            _restore_owner(entry.data)
        if entry.key:  # older records have a separate entry for the claim
            release_disk(entry, owner)


def _foreign(resource: StateDirectory, names: list[str]) -> str | None:
    """A file in the directory that is not the program's, in words, or None."""
    found = min((name for name in names if name != resource.lock and not name.startswith(resource.keeps)), default=None)
    return None if found is None else f"holds {found[:40]!r}, which does not belong to {resource.package}"


def _claim(resource: StateDirectory, place: int, held: Held) -> None:
    """Become the directory's only user, in this run directory and on the node."""
    # A file that stays, and so has an identity: those with the state are replaced by new ones.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    name = held.owner.name
    with _naming(resource, name):
        wrong = _foreign(resource, os.listdir(place))
        if wrong is None:
            os.close(os.open(resource.lock, flags, 0o600, dir_fd=place))
    if wrong is not None:
        param = resource.where.removeprefix("params.")
        raise OperationError(f"{name}: {resource.path!r} {wrong}; name another in {param}")
    lock = os.path.join(resource.path, resource.lock)
    claim_disk(lock, resource.key, held, write=True, lock=False)  # the program locks it
    if not _free_to_change_owner(place, resource.lock):
        raise DiskInUseError(path=resource.path, holder=_ELSEWHERE)


@contextmanager
def _naming(resource: StateDirectory, name: str) -> Iterator[None]:
    """Report an OSError about a file in the directory as one about the directory, which the operator knows."""
    try:
        yield
    except OSError as error:
        what = f"{name}: {resource.path!r} cannot be used, got {error.strerror}"
        param = resource.where.removeprefix("params.")
        raise OperationError(
            f"{what}; free some space there, allow hvcore to write to it, or name another in {param}"
        ) from error


def _owner_before(place: int, site: Site) -> dict[str, int]:
    """The owner to restore later, and the inode of the directory."""
    found = os.stat(place)
    # A directory that could not be given back belongs to a guest's uid, and must not belong to it again.
    lost = found.st_uid in site.host.uid_pool
    uid, gid = (os.geteuid(), os.getegid()) if lost else (found.st_uid, found.st_gid)
    return {"inode": found.st_ino, "uid": uid, "gid": gid}


def _restore_owner(data: Mapping[str, Any]) -> None:
    lock, *_ = keeps = tuple(data["keeps"])
    with suppress(FileNotFoundError, NotADirectoryError):
        place = _open_directory(data["path"])
        found = os.fstat(place)
        try:
            if data.get("inode", found.st_ino) == found.st_ino and _free_to_change_owner(place, lock):
                _chown(place, keeps, data["uid"], data["gid"])
        finally:
            os.close(place)


def _open_directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _free_to_change_owner(place: int, lock: str) -> bool:
    """Whether no other start is changing its owner and no program has locked it. Holds until ``place`` is closed."""
    if not try_lock(place):
        return False
    try:
        file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return True
    try:
        return not is_locked(file)
    finally:
        os.close(file)


def _chown(place: int, keeps: tuple[str, ...], uid: int, gid: int) -> None:
    for name in os.listdir(place):
        found = os.stat(name, dir_fd=place, follow_symlinks=False)
        if name.startswith(keeps) and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            os.chown(name, uid, gid, dir_fd=place, follow_symlinks=False)
    os.fchown(place, uid, gid)
