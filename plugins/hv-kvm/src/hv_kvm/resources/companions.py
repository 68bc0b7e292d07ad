"""Programs beside QEMU, such as swtpm: connected before either runs, confined like it, ended with it. Impure.

Whoever dies first, nothing stays: a companion ends when its connection does, and what does not end by itself the core
ends from the ledger. What it keeps from one start to the next is in a directory of its own: `hv_kvm.resources.state_dir`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from hv_kvm.confinement import installation
from hv_kvm.machine.spec import Companion, KvmSpec
from hv_kvm.names import COMPANIONS
from hv_kvm.resources.state_dir import claim, foreign_files, give_to, open_directory, owner_entry
from hvcore.plugin import (
    COMPANION,
    DISK,
    UID,
    AsCaller,
    AsUser,
    Command,
    ConfinementError,
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
    "companion_problems",
    "entries",
    "prove_companions",
    "said",
    "start_companions",
]

_STATE: Final = "/state"


def companion_problems(spec: KvmSpec) -> Iterator[Problem]:
    """Why a companion cannot be started here: its program is not there, or its directory is somebody's."""
    for companion in spec.companions:
        if not os.access(companion.binary, os.X_OK) or not os.path.isfile(companion.binary):
            todo = f"install it (Debian: {companion.package})"
            path, got = f"params.{companion.binary_param}", repr(companion.binary)
            yield Problem(path=path, what="is no program of this node", got=got, todo=todo)
        with suppress(OSError):  # that it is a directory at all is checked with all parameters that name one
            foreign = foreign_files(companion, os.listdir(companion.directory))
            if foreign:
                what = f"holds {foreign[0][:40]!r}, which is not of {companion.package}"
                todo = "name a directory of this instance alone"
                yield Problem(path=f"params.{companion.param}", what=what, got=repr(companion.directory), todo=todo)


def entries(spec: KvmSpec, level: Level) -> Iterator[Entry]:
    """What the ledger has to say of them before they are started. The rest is said once their directory is claimed."""
    for _ in spec.companions:
        yield Entry(kind=DISK)
        if level is Level.STRICT:
            yield Entry(kind=UID)


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
        place = open_directory(companion.directory)
        keep(place)
        claim(companion, place, job)
        given = [] if uid is None else [owner_entry(companion, place, job)]
        job.intend(*given, Entry(kind=COMPANION, data={"name": companion.name}))
        if uid is not None:
            give_to(uid, companion, place, job)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ends[companion.name] = add(os.dup(ours.fileno()))
            command = _command(companion, level, uid, (theirs.fileno(), place))
            job.launch(command, companion=companion.name).close()
        bound = job.record.bindings.get(COMPANIONS, {})
        job.bind(**{COMPANIONS: {**bound, companion.name: {"uid": uid}}})
    return ends


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
