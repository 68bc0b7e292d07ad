"""What should not be there: of instances that have ended, of operations that were interrupted, of nobody. Reads only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvcore.host.mount_table import mounts_at_or_below
from hvcore.host.processes.launched import launched_in
from hvcore.host.reservations import Reservations
from hvcore.model.finding import Finding, Severity
from hvcore.model.info import InstanceInfo
from hvcore.model.state import State
from hvcore.operations.context import Context
from hvcore.operations.observe import infos

__all__ = ["leftovers", "permissions"]

_OWN_DIRECTORIES: Final = ("instances", "locks", "reservations", "cache", "damaged")
_LEAST_FREE_BYTES: Final = 1024 * 1024


def leftovers(context: Context) -> Iterator[Finding]:
    """Of every instance that does not simply run, and of what belongs to none."""
    found = infos(context)
    known = {info.name for info in found}
    for info in found:
        finding = _of_instance(context, info)
        if finding is not None:
            yield finding
    yield from _locks(context)
    yield from _damaged(context.host.run_dir)
    yield from _reservations(context.host.run_dir, known)
    yield from _processes(context.host.run_dir, known)
    yield from _mounts(context.host.run_dir, known)
    calm = sum(info.state in (State.RUNNING, State.PAUSED) for info in found)
    yield Finding(subject="instances", severity=Severity.OK, what=f"{len(found)} with state here, {calm} of them run")


def _of_instance(context: Context, info: InstanceInfo) -> Finding | None:
    if info.state in (State.RUNNING, State.PAUSED) or context.store.locked(info.name):
        return None
    reason = f" ({info.reason})" if info.reason else ""
    if info.state in (State.SHUTDOWN, State.CRASHED):
        record = context.store.load(info.name)
        held = ", ".join(sorted({entry.kind for entry in record.ledger})) if record is not None else ""
        what = f"has ended, {info.state}{reason}, and holds {held or 'its directory'} until it is cleaned up"
        return Finding(subject=info.name, severity=Severity.NOTE, what=what, todo=f"hv cleanup {info.name}")
    if info.state in (State.STARTING, State.STOPPING):
        what = f"is half-way, {info.state}{reason}"
        return Finding(subject=info.name, severity=Severity.PROBLEM, what=what, todo="hv recover")
    what = f"is in state {info.state}{reason}"
    return Finding(subject=info.name, severity=Severity.PROBLEM, what=what, todo=f"hv info {info.name}")


def _locks(context: Context) -> Iterator[Finding]:
    for name in context.store.abandoned_locks():
        path = context.host.run_dir / "locks" / name
        if path.is_symlink() or not path.is_file():
            what, todo = f"nothing can be done to {name}: that is no lock file", "look at it, then move it away"
            yield Finding(subject=str(path), severity=Severity.PROBLEM, what=what, todo=todo)
            continue
        what = "an operation on it died before it had done anything"
        yield Finding(subject=name, severity=Severity.NOTE, what=what, todo="hv recover")


def _damaged(run_dir: Path) -> Iterator[Finding]:
    kept = _names(run_dir / "damaged")
    if kept:
        what = f"{len(kept)} records that could not be read were put aside: {', '.join(kept[:3])}"
        todo = f"look at them in {run_dir / 'damaged'}, then remove them"
        yield Finding(subject="damaged records", severity=Severity.NOTE, what=what, todo=todo)


def _reservations(run_dir: Path, known: set[str]) -> Iterator[Finding]:
    for kind in _names(run_dir / "reservations"):
        if not (run_dir / "reservations" / kind).is_dir():
            continue
        for key, owner in sorted(Reservations(run_dir / "reservations" / kind).items().items()):
            if owner not in known or not (run_dir / "instances" / owner).is_dir():
                what = f"is reserved for {owner!r}, of which there is no record"
                todo = f"hv stop --force {owner}"
                yield Finding(subject=f"{kind} {key}", severity=Severity.PROBLEM, what=what, todo=todo)


def _processes(run_dir: Path, known: set[str]) -> Iterator[Finding]:
    instances = run_dir / "instances"
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):
        directory = launched_in(pid)
        if directory is None or directory.parent != instances or (directory.is_dir() and directory.name in known):
            continue
        what = f"was launched for {directory.name!r}, of which there is no record"
        todo = f"hv stop --force {directory.name}"
        yield Finding(subject=f"process {pid}", severity=Severity.PROBLEM, what=what, todo=todo)


def _mounts(run_dir: Path, known: set[str]) -> Iterator[Finding]:
    instances = str(run_dir / "instances")
    for mount in mounts_at_or_below(instances):
        name = mount.point.removeprefix(instances).strip("/").split("/")[0]
        if name not in known:
            what = f"is mounted for {name!r}, of which there is no record"
            todo = f"hv stop --force {name}, or umount it"
            yield Finding(subject=mount.point, severity=Severity.PROBLEM, what=what, todo=todo)


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def permissions(run_dir: Path) -> Iterator[Finding]:
    """Whether only we can write to the run directory and what is in it, and whether there is room."""
    if not os.path.lexists(run_dir):
        what = "does not exist yet; the first start makes it"
        yield Finding(subject=str(run_dir), severity=Severity.OK, what=what)
        return
    found = [_owner_problem(path) for path in (run_dir, *(run_dir / name for name in _OWN_DIRECTORIES))]
    lacking = _lacking(os.statvfs(run_dir))
    if lacking is not None:
        what, todo = f"its file system {lacking[0]}: nothing can be started", lacking[1]
        found.append(Finding(subject=str(run_dir), severity=Severity.PROBLEM, what=what, todo=todo))
    problems = [finding for finding in found if finding is not None]
    yield from problems
    yield from _above(run_dir)
    if not problems:
        yield Finding(subject=str(run_dir), severity=Severity.OK, what="only we can write to it")


def _lacking(room: os.statvfs_result) -> tuple[str, str] | None:
    """What a file system lacks for new files, and what to do; some do not count their blocks or inodes (tmpfs, btrfs)."""
    if room.f_flag & os.ST_RDONLY:
        return "is read-only", "mount it for writing"
    if room.f_blocks and room.f_bavail * room.f_frsize < _LEAST_FREE_BYTES:
        return "is full", "make room there"
    if room.f_files and not room.f_favail:
        return "has no inode left", "remove files there"
    return None


def _owner_problem(path: Path) -> Finding | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        what, todo = "is no directory", "move it away"
    elif found.st_uid != os.geteuid():
        what, todo = f"belongs to uid {found.st_uid}", f"chown {os.geteuid()} {path}, or choose another with --run-dir"
    elif mode & 0o077:
        what, todo = f"is open to others, mode {mode:04o}", f"chmod 0700 {path}"
    else:
        return None
    severity = Severity.PROBLEM if mode & 0o022 or found.st_uid != os.geteuid() else Severity.NOTE
    return Finding(subject=str(path), severity=severity, what=what, todo=todo)


def _above(run_dir: Path) -> Iterator[Finding]:
    for parent in run_dir.resolve().parents:
        found = os.stat(parent)
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            what = "can be written to by everybody, who can put another run directory in place of ours"
            yield Finding(subject=str(parent), severity=Severity.PROBLEM, what=what, todo=f"chmod o-w {parent}")
