"""Leftovers of ended instances, of interrupted operations and of unknown origin. Changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hvcore.host.mount_table import mounts_at_or_below
from hvcore.host.network.egress_table import weaknesses
from hvcore.host.processes.launched import launched_in
from hvcore.host.processes.search import pids
from hvcore.host.reservations import Reservations
from hvcore.model.answers import Finding, Severity
from hvcore.model.observation import InstanceInfo
from hvcore.model.record import RECORD_FILE
from hvcore.model.state import ACTIVE, ENDED, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.info import infos
from hvcore.operations.inspection.left_links import left_links
from hvcore.operations.open_job import open_jobs

__all__ = ["leftovers", "permissions"]

_OWN_DIRECTORIES: Final = ("instances", "locks", "reservations", "cache", "damaged", "rebooting")
_LEAST_FREE_BYTES: Final = 1024 * 1024


def leftovers(context: Context) -> Iterator[Finding]:
    """A finding for every instance that does not run normally, and for everything that belongs to no instance."""
    found = infos(context)
    known, weak = {info.name for info in found}, weaknesses(context.host)
    for info in found:
        yield from _of_instance(context, info, weak.get(info.name))
    for name, what in open_jobs(context).items():
        yield Finding(subject=name, severity=Severity.NOTE, what=what, todo=f"hv migrate {name} --status")
    yield from _locks(context)
    yield from _damaged(context.host.run_dir)
    yield from _reservations(context.host.run_dir, known)
    yield from _processes(context.host.run_dir, known)
    recorded = {name for name in known if os.path.lexists(context.store.dir(name) / RECORD_FILE)}
    yield from _mounts(context.host.run_dir, recorded)
    yield from left_links(context, known - recorded)
    running = sum(info.state in ACTIVE for info in found)
    active = "all" if running == len(found) else f"{running} of them"
    what = f"{len(found)} on this node" + (f", {active} running or paused" if found else "")
    yield Finding(subject="instances", severity=Severity.OK, what=what)


def _of_instance(context: Context, info: InstanceInfo, weak: str | None) -> Iterator[Finding]:
    if info.state in ACTIVE or context.store.locked(info.name):
        if weak is not None:
            what = f"its egress is not enforced: {weak}"
            yield Finding(subject=info.name, severity=Severity.PROBLEM, what=what, todo="hv recover")
        return
    reason = f" ({info.reason})" if info.reason else ""
    if info.state in ENDED:
        record = context.store.load(info.name)
        held = ", ".join(sorted({entry.kind for entry in record.ledger})) if record is not None else ""
        what = f"has ended, {info.state}{reason}, and holds {held or 'its directory'} until 'hv cleanup'"
        yield Finding(subject=info.name, severity=Severity.NOTE, what=what, todo=f"hv cleanup {info.name}")
        return
    todo = "hv recover" if info.state in (State.STARTING, State.STOPPING) else f"hv info {info.name}"
    yield Finding(subject=info.name, severity=Severity.PROBLEM, what=f"is {info.state}{reason}", todo=todo)


def _locks(context: Context) -> Iterator[Finding]:
    for name in context.store.abandoned_locks():
        path = context.host.run_dir / "locks" / name
        if path.is_symlink() or not path.is_file():
            what = f"is not a lock file, so no operation on {name} is possible"
            yield Finding(subject=str(path), severity=Severity.PROBLEM, what=what, todo="look at it, then move it away")
        else:
            what = "an operation on it was killed before it changed anything"
            yield Finding(subject=name, severity=Severity.NOTE, what=what, todo="hv recover")


def _damaged(run_dir: Path) -> Iterator[Finding]:
    if kept := _names(run_dir / "damaged"):
        what = f"{len(kept)} unreadable records were put aside: {', '.join(kept[:3])}"
        todo = f"look at them in {run_dir / 'damaged'}, then remove them"
        yield Finding(subject="damaged records", severity=Severity.NOTE, what=what, todo=todo)


def _reservations(run_dir: Path, known: set[str]) -> Iterator[Finding]:
    for kind in _names(run_dir / "reservations"):
        if not (run_dir / "reservations" / kind).is_dir():
            continue
        for key, owner in sorted(Reservations(run_dir / "reservations" / kind).items().items()):
            if owner not in known or not (run_dir / "instances" / owner).is_dir():
                yield _without_record(f"{kind} {key}", "is reserved", owner)


def _processes(run_dir: Path, known: set[str]) -> Iterator[Finding]:
    instances = run_dir / "instances"
    for pid in sorted(pids()):
        directory = launched_in(pid)
        if directory is None or directory.parent != instances or (directory.is_dir() and directory.name in known):
            continue
        yield _without_record(f"process {pid}", "was launched", directory.name)


def _mounts(run_dir: Path, known: set[str]) -> Iterator[Finding]:
    instances = str(run_dir / "instances")
    for mount in mounts_at_or_below(instances):
        name = mount.point.removeprefix(instances).strip("/").split("/")[0]
        if name not in known:
            yield _without_record(mount.point, "is mounted", name, ", or umount it")


def _without_record(subject: str, what: str, name: str, or_else: str = "") -> Finding:
    what = f"{what} for {name!r}, which has no record"
    return Finding(subject=subject, severity=Severity.PROBLEM, what=what, todo=f"hv stop --force {name}{or_else}")


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def permissions(run_dir: Path) -> Iterator[Finding]:
    """Whether only this user can write to the run directory, and whether it has room."""
    if not os.path.lexists(run_dir):
        yield Finding(subject=str(run_dir), severity=Severity.OK, what="does not exist yet; the first start makes it")
        return
    found = [_owner_problem(path) for path in (run_dir, *(run_dir / name for name in _OWN_DIRECTORIES))]
    lacking = _lacking(os.statvfs(run_dir))
    if lacking is not None:
        what, todo = f"its file system {lacking[0]}: no instance can start", lacking[1]
        found.append(Finding(subject=str(run_dir), severity=Severity.PROBLEM, what=what, todo=todo))
    problems = [finding for finding in found if finding is not None]
    yield from problems
    yield from _above(run_dir)
    if not problems:
        yield Finding(subject=str(run_dir), severity=Severity.OK, what="only this user can write to it")


def _lacking(room: os.statvfs_result) -> tuple[str, str] | None:
    """What the file system lacks, and what to do. Some do not count their blocks or inodes (tmpfs, btrfs)."""
    if room.f_flag & os.ST_RDONLY:
        return "is read-only", "mount it for writing"
    if room.f_blocks and room.f_bavail * room.f_frsize < _LEAST_FREE_BYTES:
        return "is full", "free some space there"
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
        what, todo = "is not a directory", "move it away"
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
            what = "every user can write to it, and so replace the run directory"
            yield Finding(subject=str(parent), severity=Severity.PROBLEM, what=what, todo=f"chmod o-w {parent}")
