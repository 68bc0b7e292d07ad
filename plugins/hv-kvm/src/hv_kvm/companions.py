"""Programs beside QEMU, such as swtpm: connected before either runs, confined like it, ended with it. Impure.

Whoever dies first, nothing stays: a companion ends when its connection does, and what does not end by itself the core
ends from the ledger. Its directory belongs to its uid while it runs and goes back to its owner afterwards. It is given
to nobody, and taken from nobody, whose companion has the lock file in it: that may be one of another run directory.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from hv_kvm.confine import installation
from hv_kvm.names import COMPANIONS
from hv_kvm.spec import Companion, KvmSpec
from hvcore import (
    COMPANION,
    DISK,
    UID,
    AsCaller,
    AsUser,
    Command,
    ConfinementError,
    DiskInUseError,
    Entry,
    Job,
    Level,
    OperationError,
    Problem,
    Sandbox,
    View,
    encode,
    identify,
    read_status,
    weaknesses,
)

__all__ = [
    "OWNER",
    "companion_problems",
    "entries",
    "give_back",
    "prove_companions",
    "said",
    "start_companions",
]

OWNER: Final = "owner"
"""Kind of a ledger entry: the directory at data["path"] goes back to data["uid"] and data["gid"]."""

_STATE: Final = "/state"
_FLOCK: Final = "hh4xqqi4x"  # struct flock of Linux on 64-bit: l_type, l_whence, padding, l_start, l_len, l_pid
_ELSEWHERE: Final = "an instance of another run directory on this node"


def companion_problems(spec: KvmSpec) -> Iterator[Problem]:
    """Why a companion cannot be started here: its program is not there, or its directory is somebody's."""
    for companion in spec.companions:
        if not os.access(companion.binary, os.X_OK) or not os.path.isfile(companion.binary):
            todo = f"install it (Debian: {companion.package})"
            path, got = f"params.{companion.binary_param}", repr(companion.binary)
            yield Problem(path=path, what="is no program of this node", got=got, todo=todo)
        with suppress(OSError):  # that it is a directory at all is checked with all parameters that name one
            foreign = _foreign(companion, os.listdir(companion.directory))
            if foreign:
                what = f"holds {foreign[0][:40]!r}, which is not of {companion.package}"
                todo = "name a directory of this instance alone"
                yield Problem(path=f"params.{companion.param}", what=what, got=repr(companion.directory), todo=todo)


def _foreign(companion: Companion, names: list[str]) -> list[str]:
    return sorted(name for name in names if name != companion.lock and not name.startswith(companion.keeps))


def entries(spec: KvmSpec, level: Level) -> Iterator[Entry]:
    """What the ledger has to say of them before they are started. The rest is said once their directory is claimed."""
    for _ in spec.companions:
        yield Entry(kind=DISK)
        if level is Level.STRICT:
            yield Entry(kind=UID)


def _owner(companion: Companion, place: int, job: Job) -> dict[str, Any]:
    found = os.stat(place)
    # Of one that could not be given back, the owner was a guest's uid. That is nobody to give it to.
    lost_one = found.st_uid in job.host.uid_pool
    uid, gid = (os.geteuid(), os.getegid()) if lost_one else (found.st_uid, found.st_gid)
    keeps = [companion.lock, *companion.keeps]
    return {"path": companion.directory, "inode": found.st_ino, "uid": uid, "gid": gid, "keeps": keeps}


def give_back(entry: Entry, job: Job) -> None:
    """The directory and what is in it, to whom it belonged before. That it is gone is fine, or another's by now.

    Also when the path leads to another directory by now, which whoever may write on the way there can bring about.
    """
    del job
    lock, *_ = keeps = tuple(entry.data["keeps"])
    with suppress(FileNotFoundError, NotADirectoryError):
        place = _open_directory(entry.data["path"])
        found = os.fstat(place)
        try:
            if entry.data.get("inode", found.st_ino) == found.st_ino and _only_ours(place, lock):
                _chown(place, keeps, entry.data["uid"], entry.data["gid"])
        finally:
            os.close(place)


def _open_directory(path: str) -> int:
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


def start_companions(
    spec: KvmSpec, level: Level, job: Job, add: Callable[[int], str], keep: Callable[[int], None]
) -> dict[str, str]:
    """Start each; QEMU's end of its pair by name, as ``add`` gives the descriptor back.

    ``keep`` gets what has to stay open until QEMU answers: only then has the companion locked its directory itself.
    Raises `DiskInUseError` when another instance has the directory, and `OperationError`.
    """
    ends = {}
    for companion in spec.companions:
        uid = job.take_uid() if level is Level.STRICT else None
        place = _open_directory(companion.directory)
        keep(place)
        _claim_directory(companion, place, job)
        if not _only_ours(place, companion.lock):
            raise DiskInUseError(path=companion.directory, holder=_ELSEWHERE)
        keeps = (companion.lock, *companion.keeps)
        given = [] if uid is None else [Entry(kind=OWNER, data=_owner(companion, place, job))]
        job.intend(*given, Entry(kind=COMPANION, data={"name": companion.name}))
        if uid is not None:
            with _blaming(companion, job):
                _chown(place, keeps, uid, uid)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ends[companion.name] = add(os.dup(ours.fileno()))
            command = _command(companion, level, uid, (theirs.fileno(), place))
            job.launch(command, companion=companion.name).close()
        bound = job.record.bindings.get(COMPANIONS, {})
        job.bind(**{COMPANIONS: {**bound, companion.name: {"uid": uid}}})
    return ends


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


def _claim_directory(companion: Companion, place: int, job: Job) -> None:
    # A file that stays, and so has an identity: those with the state are replaced by new ones.
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with _blaming(companion, job):
        wrong = _foreign(companion, os.listdir(place))
        if not wrong:
            os.close(os.open(companion.lock, flags, 0o600, dir_fd=place))
    if wrong:
        what = f"{job.name}: {companion.directory!r} holds {wrong[0][:40]!r}, which is not of {companion.package}"
        raise OperationError(f"{what}; name another in {companion.param}")
    job.claim_disk(os.path.join(companion.directory, companion.lock), lock=False)  # swtpm does


def _command(companion: Companion, level: Level, uid: int | None, fds: tuple[int, int]) -> Command:
    end, state = fds
    # Without a sandbox by descriptor: no option of the program can be made of the directory's name.
    place = f"/proc/self/fd/{state}" if level is Level.OFF else _STATE
    argv = tuple(argument.format(fd=end, state=place) for argument in companion.arguments)
    passed = (end, state) if level is Level.OFF else (end,)
    return Command(argv=(companion.binary, *argv), sandbox=_sandbox(companion, level, uid), fds=passed)


def _sandbox(companion: Companion, level: Level, uid: int | None) -> Sandbox | None:
    if level is Level.OFF:
        return None
    view = View(
        read_only=tuple((path, path) for path in installation(companion.binary)),
        writable=((companion.directory, _STATE),),
    )
    return Sandbox(who=AsCaller() if uid is None else AsUser(uid), view=view, seccomp=companion.seccomp)


def prove_companions(spec: KvmSpec, level: Level, job: Job) -> None:
    """Remember which process each is, and read back how it is confined. Raises `OperationError`, `ConfinementError`."""
    bound = dict(job.record.bindings.get(COMPANIONS, {}))
    for companion in spec.companions:
        pid = read_status(job.dir / f"{companion.name}.status").pid
        process = None if pid is None else identify(pid)
        if process is None:
            raise OperationError(f"{job.name}: {companion.binary} ended at once: {said(companion, job)}")
        uid = bound.get(companion.name, {}).get("uid")
        found = weaknesses(_sandbox(companion, level, uid), process.pid)
        if found:
            what = f"{job.name}: {companion.name} is not as confined as asked ({level}): {'; '.join(found)}"
            raise ConfinementError(f"{what}; look at what differs on this node")
        bound[companion.name] = {"uid": uid, "process": encode(process)}
    if bound:
        job.bind(**{COMPANIONS: bound})


def said(companion: Companion, job: Job) -> str:
    """What it wrote, in one line."""
    return " ".join(job.output(companion.name).split())[-300:] or "it said nothing"
