"""The directory in which a program beside QEMU keeps its state from one start to the next. Impure.

It belongs to the program's uid while that runs, and goes back to its owner afterwards. It is given to nobody, and taken
from nobody, whose companion has the lock file in it: that may be one of another run directory.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from hv_kvm.machine.spec import Companion
from hvcore.plugin import DiskInUseError, Entry, Job, OperationError

__all__ = ["OWNER", "claim", "foreign_files", "give_back", "give_to", "open_directory", "owner_entry"]

OWNER: Final = "owner"
"""Kind of a ledger entry: the directory at data["path"] goes back to data["uid"] and data["gid"]."""

_FLOCK: Final = "hh4xqqi4x"  # struct flock of Linux on 64-bit: l_type, l_whence, padding, l_start, l_len, l_pid
_ELSEWHERE: Final = "an instance of another run directory on this node"


def foreign_files(companion: Companion, names: list[str]) -> list[str]:
    """Those of the names in the directory that are nothing of the companion's, sorted."""
    return sorted(name for name in names if name != companion.lock and not name.startswith(companion.keeps))


def claim(companion: Companion, place: int, job: Job) -> None:
    """Become the directory's one user, in this run directory and on the node. Raises `DiskInUseError`, `OperationError`."""
    # A file that stays, and so has an identity: those with the state are replaced by new ones.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _blaming(companion, job):
        wrong = foreign_files(companion, os.listdir(place))
        if not wrong:
            os.close(os.open(companion.lock, flags, 0o600, dir_fd=place))
    if wrong:
        what = f"{job.name}: {companion.directory!r} holds {wrong[0][:40]!r}, which is not of {companion.package}"
        raise OperationError(f"{what}; name another in {companion.param}")
    job.claim_disk(os.path.join(companion.directory, companion.lock), lock=False)  # swtpm does
    if not _only_ours(place, companion.lock):
        raise DiskInUseError(path=companion.directory, holder=_ELSEWHERE)


@contextmanager
def _blaming(companion: Companion, job: Job) -> Iterator[None]:
    """What the node refuses there is the directory's fault, and the names in it say nothing to anybody."""
    try:
        yield
    except OSError as error:
        what = f"{job.name}: {companion.directory!r} cannot be used, got {error.strerror}"
        raise OperationError(
            f"{what}; make room and let us write there, or name another in {companion.param}"
        ) from error


def owner_entry(companion: Companion, place: int, job: Job) -> Entry:
    """What the ledger has to say before the directory is given away: to whom it goes back."""
    found = os.stat(place)
    # Of one that could not be given back, the owner was a guest's uid. That is nobody to give it to.
    lost_one = found.st_uid in job.host.uid_pool
    uid, gid = (os.geteuid(), os.getegid()) if lost_one else (found.st_uid, found.st_gid)
    keeps = [companion.lock, *companion.keeps]
    return Entry(
        kind=OWNER,
        data={"path": companion.directory, "inode": found.st_ino, "uid": uid, "gid": gid, "keeps": keeps},
    )


def give_to(uid: int, companion: Companion, place: int, job: Job) -> None:
    """Let the directory and what is in it belong to that uid. Raises `OperationError`."""
    with _blaming(companion, job):
        _chown(place, (companion.lock, *companion.keeps), uid, uid)


def give_back(entry: Entry, job: Job) -> None:
    """The directory and what is in it, to whom it belonged before. That it is gone is fine, or another's by now.

    Also when the path leads to another directory by now, which whoever may write on the way there can bring about.
    """
    del job
    lock, *_ = keeps = tuple(entry.data["keeps"])
    with suppress(FileNotFoundError, NotADirectoryError):
        place = open_directory(entry.data["path"])
        found = os.fstat(place)
        try:
            if entry.data.get("inode", found.st_ino) == found.st_ino and _only_ours(place, lock):
                _chown(place, keeps, entry.data["uid"], entry.data["gid"])
        finally:
            os.close(place)


def open_directory(path: str) -> int:
    """A descriptor of the directory itself, whatever its path leads to later."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _only_ours(place: int, lock: str) -> bool:
    """Whether nobody else is giving the directory to a companion, and no companion has locked it. Ours until closed."""
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    except FileNotFoundError:
        return True
    try:
        reply = fcntl.fcntl(file, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(file)
    return bool(struct.unpack(_FLOCK, reply)[0] == fcntl.F_UNLCK)


def _chown(place: int, keeps: tuple[str, ...], uid: int, gid: int) -> None:
    for name in os.listdir(place):
        found = os.stat(name, dir_fd=place, follow_symlinks=False)
        if name.startswith(keeps) and stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            os.chown(name, uid, gid, dir_fd=place, follow_symlinks=False)
    os.fchown(place, uid, gid)
