"""Disks with one user on the whole node, not only in one run directory: by a lock of the kernel on the disk itself.

A claim is a reservation in the run directory and an open file description lock (fcntl(2)) on the disk. The launched
process inherits the descriptor, so the lock ends with that process, or with the operation if nothing was launched. Every
user who can read a disk can claim it. Writers and readers lock different bytes, both with read locks, for which a
descriptor without write access is enough. QEMU's own image locks are on bytes 100 to 299.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from hvcore.errors import DiskInUseError
from hvcore.host.disks.disk_identity import DiskId, host_use, identify_disk, sharing
from hvcore.host.files import private_dir
from hvcore.host.lock import close_in_children, close_lock, held_lock
from hvcore.host.processes.launched import launched_in
from hvcore.host.processes.process import in_words
from hvcore.host.processes.search import processes_holding
from hvcore.host.record_locks import is_locked, share_byte
from hvcore.host.reservations import Reservations, between_halves, instance_of

__all__ = ["DISK", "DiskClaims", "KeptDisks"]

DISK: Final = "disk"

_WRITER_BYTE: Final = 0x68760000  # "hv", far behind QEMU's, and below 2 GiB for old network file systems
_READER_BYTE: Final = _WRITER_BYTE + 1
_NAME_BYTES: Final = 255  # of a file, linux/limits.h
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class DiskClaims:
    """The disks that one operation claims for ``owner``, a resource of an instance: reserved, and locked on the node.

    With ``arriving``, the instance also runs elsewhere, and has the disks locked there until it has moved here. The claim
    takes its lock beside that one. No third instance can get the disk: the other lock keeps it out until this one is there,
    because a migration begins only if the instance still runs there afterwards.
    """

    def __init__(self, run_dir: Path, owner: str, between: KeptDisks | None = None, *, arriving: bool = False) -> None:
        self._root = run_dir / "reservations"
        self._owner = owner
        self._writers, self._readers = _of_disks(run_dir)
        self._between = between
        self._arriving = arriving
        self._fds: list[int] = []

    @property
    def fds(self) -> tuple[int, ...]:
        """The descriptors that the process with the disks has to inherit."""
        return tuple(self._fds)

    def close(self) -> None:
        """Close our descriptors of the locks; processes that inherited them keep the locks."""
        while self._fds:
            close_lock(self._fds.pop())

    def take(self, path: str, *, read_only: bool, lock: bool = True) -> None:
        """Claim the disk; readers share. Raises `DiskInUseError` naming the holder, and OSError.

        Without ``lock`` it is only reserved: for a user that locks the whole disk, which our lock would prevent.
        """
        disk = identify_disk(path, directories=True)
        root = private_dir(self._root)
        writers, readers = self._writers, self._readers
        instance = instance_of(self._owner)
        mine = (readers, _reader(disk.key, instance)) if read_only else (writers, disk.key)
        with ExitStack() as stack:
            # Opened before the lock of all disks: a file server that is down answers no open(2), and other disks have to go on.
            opened = stack.enter_context(_opened(path, disk)) if lock and not disk.network else None
            purpose = f"claim for {self._owner}"
            stack.enter_context(held_lock(root / ".disks", subject=f"disk {path!r}", purpose=purpose, keep=True))
            kept = mine[0].target(mine[1]) == between_halves(instance)
            own = mine[0].owner(mine[1]) == instance and not kept
            self._refuse_used(path, disk, read_only=read_only, own=own)
            if own:
                return  # with the lock
            if opened is not None:
                locked = None if self._between is None else self._between.lock_of(disk, read_only=read_only)
                if locked is None:
                    _lock_opened(path, *opened, read_only=read_only, beside=self._arriving)
                    locked = os.dup(opened[1])  # of the same open file, which has the lock
                    close_in_children(locked)
                self._fds.append(locked)
            mine[0].take(mine[1], self._owner)

    def refuse_used(self, path: str, *, read_only: bool, lock: bool = True) -> None:
        """Refuse what `take` would refuse now, and take nothing. The instance's own use of the disk is allowed."""
        disk = identify_disk(path, directories=True)
        instance = instance_of(self._owner)
        own = any(
            reserved.owner(key) == instance
            for reserved in (self._writers, self._readers)
            for key in sharing(reserved.keys(), disk.key)
        )
        self._refuse_used(path, disk, read_only=read_only, own=own)
        if lock and not disk.network and not own and not self._arriving:
            place = _place_of(path, disk)
            fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                _refuse_locked(path, place, fd, read_only=read_only)
            finally:
                os.close(fd)

    def read_by_others(self, path: str) -> bool:
        """Whether another instance has reserved the disk for reading. False for a disk that does not exist."""
        try:
            key = identify_disk(path, directories=True).key
        except OSError:
            return False
        owners = (self._readers.owner(name) for name in sharing(self._readers.keys(), key))
        return any(owner not in (None, instance_of(self._owner)) for owner in owners)

    def _refuse_used(self, path: str, disk: DiskId, *, read_only: bool, own: bool) -> None:
        """Raise `DiskInUseError` when another instance has reserved the disk, or, unless it is ``own``, the host uses it."""
        instance = instance_of(self._owner)
        written, read = (
            {owner for key in sharing(reserved.keys(), disk.key) if (owner := reserved.owner(key))}
            for reserved in (self._writers, self._readers)
        )
        others = (written if read_only else written | read) - {instance}
        if others:
            raise DiskInUseError(path=path, holder=f"instance {min(written & others or others)}")
        # Not for a second reader: the mounts it would find may be those of other readers.
        used = None if own or read - {instance} else host_use(path, disk)
        if used is not None:
            raise DiskInUseError(path=path, holder=used)


class KeptDisks:
    """The locks on the disks of an instance from before the stop of a reboot until its start has taken them over.

    They are taken beside those of the running process. If hvcore is killed, they end.
    """

    def __init__(self, run_dir: Path, instance: str) -> None:
        self._run_dir, self._instance = run_dir, instance
        self._reserved = _of_disks(run_dir)
        self._fds: dict[tuple[str, bool], int] = {}

    def hold(self, disks: Iterable[tuple[str, bool]]) -> None:
        """Hold these disks, by path and whether they are only read. Their reservations are held already.

        A path without a disk is left to the start. Raises `DiskInUseError` if another disk is at a path now, and is in use.
        """
        for path, read_only in disks:
            with suppress(OSError):
                self._lock(path, identify_disk(path, directories=True), read_only=read_only)

    def _lock(self, path: str, disk: DiskId, *, read_only: bool) -> None:
        writers, readers = self._reserved
        reserved, key = (readers, _reader(disk.key, self._instance)) if read_only else (writers, disk.key)
        if disk.network or (disk.key, read_only) in self._fds:
            return
        if reserved.owner(key) == self._instance:
            fd = _locked_too(path, disk, read_only=read_only)
            close_in_children(fd)
            self._fds[disk.key, read_only] = fd
        else:  # another disk than at the start of the instance
            claims = DiskClaims(self._run_dir, between_halves(self._instance))
            claims.take(path, read_only=read_only)
            for fd in claims.fds:  # one, or none on a file system without locks
                self._fds[disk.key, read_only] = fd

    def lock_of(self, disk: DiskId, *, read_only: bool) -> int | None:
        """The descriptor that holds the lock on that disk, which the caller takes over; None without one."""
        return self._fds.pop((disk.key, read_only), None)

    def close(self) -> None:
        """Give up the locks that no start has taken over."""
        while self._fds:
            close_lock(self._fds.popitem()[1])


def _of_disks(run_dir: Path) -> tuple[Reservations, Reservations]:
    """The reservations of those who write to a disk, and of those who read it."""
    return Reservations(run_dir / "reservations" / DISK), Reservations(run_dir / "reservations" / f"{DISK}-readers")


def _reader(key: str, owner: str) -> str:
    """The name of a reader's reservation, without the last parts of the key if it would be too long."""
    while len(key) + 1 + len(owner) > _NAME_BYTES and "^" in key:
        key = key.rpartition("^")[0]
    return f"{key}.{owner}"


@contextmanager
def _opened(path: str, disk: DiskId) -> Iterator[tuple[str, int]]:
    """The path to lock, and its descriptor, which is open for the block only. Raises OSError."""
    place = _place_of(path, disk)
    fd = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    close_in_children(fd)
    try:
        yield place, fd
    finally:
        close_lock(fd)


def _lock_opened(path: str, place: str, fd: int, *, read_only: bool, beside: bool) -> None:
    """Lock the disk by that descriptor. Raises `DiskInUseError` naming the holder unless ``beside`` it, and OSError.

    Two at the same moment may both be refused, and never both get it.
    """
    # First lock and then check, so that of two at once at least one sees the other.
    if _lock(fd, _READER_BYTE if read_only else _WRITER_BYTE) and not beside:
        _refuse_locked(path, place, fd, read_only=read_only)


def _locked_too(path: str, disk: DiskId, *, read_only: bool) -> int:
    """A descriptor that holds the lock on a disk that the caller's instance has locked already: no holder is refused."""
    fd = os.open(_place_of(path, disk), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _lock(fd, _READER_BYTE if read_only else _WRITER_BYTE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refuse_locked(path: str, place: str, fd: int, *, read_only: bool) -> None:
    conflicting = (_WRITER_BYTE,) if read_only else (_WRITER_BYTE, _READER_BYTE)
    if any(_locked_by_another(fd, byte) for byte in conflicting):
        raise DiskInUseError(path=path, holder=_holder(place))


def _lock(fd: int, byte: int) -> bool:
    try:
        share_byte(fd, byte)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False  # a file system without locks: only the reservation counts
        raise
    return True


def _locked_by_another(fd: int, byte: int) -> bool:
    try:
        return is_locked(fd, byte=byte, count=1)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise


def _place_of(path: str, disk: DiskId) -> str:
    """The path to lock: a lock is on an inode, and a block device can have several, so the one that udev made.

    For a loop device, the file or device that it maps.
    """
    found = os.stat(path)
    if not stat.S_ISBLK(found.st_mode):
        return path
    here = os.path.realpath(f"/sys/dev/block/{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}")
    with suppress(OSError):
        behind = Path(here, "loop/backing_file").read_text().rstrip("\n")
        if identify_disk(behind).key == disk.key:
            return _place_of(behind, disk)
    place = f"/dev/{os.path.basename(here)}"
    with suppress(OSError):
        if identify_disk(place).key == disk.key:
            return place
    return path


def _locks(pid: int, path: str) -> bool:
    """Whether that process has one of our locks on the file, as far as we can see its descriptors (proc(5), fdinfo)."""
    inode = os.stat(path).st_ino
    mine = tuple(f":{inode} {byte} {byte}" for byte in (_WRITER_BYTE, _READER_BYTE))
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fdinfo"):
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
                if any(line.endswith(mine) for line in lines if "OFDLCK" in line):
                    return True
    return False


def _holder(path: str) -> str:
    """The instance whose process has the disk open, or another program that locks it, as far as we can see processes."""
    for process in processes_holding(Path(os.path.realpath(path))):
        directory = launched_in(process.pid)
        if directory is not None:
            return f"instance {directory.name} of run directory {directory.parent.parent}, pid {process.pid}"
        if _locks(process.pid, path):
            return f"a program that has locked it, {in_words(process.pid)}"
    return "an instance of another run directory on this node, which cannot be seen from here"
