"""Giving back what an instance holds, from its ledger: after a stop, a failed start, or a crash."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hvcore.deadline import Deadline
from hvcore.errors import DeadlineError, HvError, LeftoverError, NodeError
from hvcore.host.cgroups.group import Group
from hvcore.host.cgroups.hierarchy import group_name
from hvcore.host.disks.holders import wait_unused
from hvcore.host.environment import Host
from hvcore.host.launching.launch import reap
from hvcore.host.mounts.mount_table import unmount_below
from hvcore.host.processes.launch_notes import forget_launch
from hvcore.host.processes.launched import marked_for, members
from hvcore.host.processes.process import boot_id, identify, kill_and_wait, wait_gone
from hvcore.host.reservations import Reservations
from hvcore.model.outcome import Outcome
from hvcore.model.record import Entry, Record
from hvcore.model.state import Op, State
from hvcore.operations.context import Context
from hvcore.state.job import COMPANION, DISK, LIFE_LOCK, LINK, MOUNT, PROCESS, STATUS, UID, UID_RANGE, Job
from hvcore.state.live import CGROUP

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # with pluggy and metadata: not for those who load no driver

__all__ = ["gone", "release_all", "release_without_driver", "release_without_record"]

_LET_GO_S: Final = 3.0
_KILL_S: Final = 5.0
_MONITOR_S: Final = 2.0
_COMPANION_S: Final = 1.0
_END_TRIES: Final = 100


def gone(
    context: Context,
    loaded: LoadedDriver,
    job: Job,
    *,
    op: Op = Op.CLEANUP,
    rung: str = "gone",
    notes: tuple[str, ...] = (),
) -> Outcome:
    """Release what an instance that has ended holds, and tell the hooks; the outcome, with what went wrong in those.

    ``rung`` is what ended it, ``notes`` are what is to be known of that. Raises `LeftoverError`; the hooks are then
    not told.
    """
    release_all(context, loaded, job)
    outcome = Outcome(
        name=job.name,
        op=op,
        changed=True,
        state=State.STOPPED,
        rung=rung,
        seconds=job.deadline.spent(),
        notes=notes,
    )
    failures = loaded.hooks.notes("after_stop", instance=job.record.instance, outcome=outcome)
    return replace(outcome, notes=(*notes, *failures))


def release_all(context: Context, loaded: LoadedDriver, job: Job) -> None:
    """Release every ledger entry, the last acquired first, then remove the instance's state.

    A process that does not go keeps everything else reserved: it may still write. Any other failure does not
    keep the rest from being released. Raises `LeftoverError` naming all of it; what is left stays in the ledger.
    """
    left: list[Entry] = []
    reasons: list[str] = []
    entries = list(job.record.ledger)
    while entries:
        entry = entries.pop()
        try:
            _release(loaded, entry, job)
        except (HvError, OSError) as error:
            left.insert(0, entry)
            reasons.append(str(error))
            if entry.kind in (PROCESS, COMPANION):
                break
    if reasons:
        with suppress(NodeError):  # the reasons are what has to be told
            job.update(ledger=(*entries, *left))
        raise LeftoverError(f"{job.name}: not everything could be released: {'; '.join(reasons)}; try again")
    context.store.remove(job.name)
    forget_launch(job.dir, str(job.record.started_at))
    reap()


def release_without_record(context: Context, name: str) -> list[str]:
    """End and release what can be found of an instance whose record is unreadable; what was done, in words.

    Its processes hold the life lock or are in its control group, its reservations name it, its mounts are below its
    directory.
    """
    done = _end_found(context, name)
    _give_back(context, name)
    kept = context.store.set_aside(name)
    if kept is not None:
        what = "the damaged record" if context.store.dir(name).exists() else "what was in its place"
        done.append(f"kept {what} as {kept}")
    context.store.remove(name)
    reap()
    return done


def release_without_driver(context: Context, job: Job) -> list[str]:
    """End and release what an instance holds whose driver cannot be used; what was done, in words.

    What only the driver can release is named, and the record is kept aside. Raises `LeftoverError` when something of the
    core's own cannot be released; the record is then as it was.
    """
    ledger = job.record.ledger[::-1]
    _release_core(job, [entry for entry in ledger if entry.kind in (PROCESS, COMPANION)])
    done = _end_found(context, job.name)
    _release_core(job, [entry for entry in ledger if entry.kind not in (PROCESS, COMPANION)])
    _give_back(context, job.name)
    foreign = sorted({entry.kind for entry in ledger} - set(_RELEASES))
    if foreign:
        what = f"only driver {job.record.driver} can release {', '.join(foreign)}"
        done.append(f"{what}: its record is kept as {context.store.set_aside(job.name)}")
    context.store.remove(job.name)
    reap()
    return done


def _release_core(job: Job, entries: Iterable[Entry]) -> None:
    """Release those entries that the core itself can. Raises `LeftoverError` naming all that could not be."""
    reasons = []
    for entry in entries:
        try:
            if entry.kind in _RELEASES:
                _RELEASES[entry.kind](entry, job)
        except (HvError, OSError) as error:
            reasons.append(str(error))
    if reasons:
        raise LeftoverError(f"{job.name}: not everything could be released: {'; '.join(reasons)}; try again")


def _end_found(context: Context, name: str) -> list[str]:
    """End every process that can be found of the instance without its record, and say so."""
    directory = context.store.dir(name)
    deadline = Deadline(_KILL_S)
    done = [f"ended pid {pid}" for pid in _end_members(name, directory, deadline)]
    for life in sorted(directory.glob(f"*.{LIFE_LOCK}")):
        companion = life.name.removesuffix(LIFE_LOCK)
        done += [f"ended pid {pid}" for pid in _end_members(name, directory, deadline, companion)]
    for pid in reversed(marked_for(directory, context.host.uid_pool)):  # children first: their parents collect them
        process = identify(pid)
        if process is not None and kill_and_wait(process, subject=name, deadline_s=_KILL_S):
            done.append(f"ended pid {pid}")
    return done + _end_group(context.host, group_name(context.host.run_dir, name))


def _give_back(context: Context, name: str) -> None:
    """Unmount what is below the instance's directory, and free what is reserved for it."""
    _unmount(context.store.dir(name))
    for kind in (UID, UID_RANGE, DISK):
        _release_reservations(context.host, kind, name)


def _release(loaded: LoadedDriver, entry: Entry, job: Job) -> None:
    if entry.kind in _RELEASES:
        _RELEASES[entry.kind](entry, job)
    elif not loaded.release(entry, job):
        raise LeftoverError(f"{job.name}: nobody knows how to release {entry.kind!r}; upgrade driver {loaded.name}")


def _release_process(entry: Entry, job: Job) -> None:
    del entry
    record: Record = job.record
    if record.boot_id != boot_id():
        return  # it ended with its boot, and its numbers may be anybody's now
    if record.process is not None:
        kill_and_wait(record.process, subject=job.name, deadline_s=_KILL_S)
    if record.monitor is not None and (
        wait_gone(record.monitor, _MONITOR_S) or kill_and_wait(record.monitor, subject=job.name, deadline_s=_KILL_S)
    ):
        return  # it ends only after everything it launched
    _end_members(job.name, job.dir, Deadline(_KILL_S))


def _release_companion(entry: Entry, job: Job) -> None:
    """It ends by itself when what it served has ended, and writes down what it keeps; else it is made to."""
    prefix, deadline = f"{entry.data['name']}.", Deadline(_COMPANION_S)
    if job.record.boot_id != boot_id():
        return
    for process in members(job.dir / f"{prefix}{LIFE_LOCK}", job.dir / f"{prefix}{STATUS}"):
        wait_gone(process, deadline.left())
    _end_members(job.name, job.dir, Deadline(_KILL_S), prefix)


def _end_members(name: str, directory: Path, deadline: Deadline, prefix: str = "") -> list[int]:
    ended: list[int] = []
    # Again and again, because one that was between fork and exec may have made another.
    while found := members(directory / f"{prefix}{LIFE_LOCK}", directory / f"{prefix}{STATUS}"):
        left_s = deadline.left()
        ended += [process.pid for process in found if kill_and_wait(process, subject=name, deadline_s=left_s)]
        if deadline.left() == 0.0:
            raise DeadlineError(
                subject=name, waiting_for="end of its processes", waited_s=deadline.seconds, todo="try again"
            )
    return ended


def _release_cgroup(entry: Entry, job: Job) -> None:
    _end_group(job.host, entry.data["name"])


def _end_group(host: Host, name: str) -> list[str]:
    """End what is in the control group, remove it, and say so. Nothing there is fine."""
    if not host.cgroups.usable:
        return []
    group, deadline = Group(name, host.cgroups), Deadline(_KILL_S)
    pids = group.pids()
    for _ in range(_END_TRIES):
        group.kill(deadline.left())
        with suppress(NodeError):  # one was on its way in: a stop script, whose caller has been killed
            group.remove()
            break
    else:
        group.remove()
    return [f"ended pid {pid}" for pid in pids]


def _release_uid(entry: Entry, job: Job) -> None:
    del entry
    _release_reservations(job.host, UID, job.name)


def _release_uid_range(entry: Entry, job: Job) -> None:
    del entry
    _release_reservations(job.host, UID_RANGE, job.name)


def _release_disk(entry: Entry, job: Job) -> None:
    del entry
    _release_reservations(job.host, DISK, job.name)


def _release_reservations(host: Host, kind: str, owner: str) -> None:
    for directory in (kind, f"{kind}-readers"):
        Reservations(host.run_dir / "reservations" / directory).release(owner)


def _release_mount(entry: Entry, job: Job) -> None:
    try:
        _unmount(job.dir)
    except LeftoverError:
        # Who was between fork and exec, its starter killed, was not known for one of ours before; now it has the mark.
        if job.record.boot_id != boot_id() or not _end_members(job.name, job.dir, Deadline(_KILL_S)):
            raise
        _unmount(job.dir)
    if "disk" in entry.data:
        # Also when an earlier try has unmounted it: what is still in use has not been released.
        wait_unused(entry.data["disk"], _LET_GO_S)


def _unmount(directory: Path) -> None:
    unmount_below(str(directory.resolve()))


def _release_link(entry: Entry, job: Job) -> None:
    path = Path(entry.data["path"])
    # Only our own link: an operator may have put something else there since.
    if path.is_symlink() and os.readlink(path).startswith(f"{job.dir}/"):
        path.unlink(missing_ok=True)


_RELEASES: Final[Mapping[str, Callable[[Entry, Job], None]]] = {
    PROCESS: _release_process,
    COMPANION: _release_companion,
    CGROUP: _release_cgroup,
    UID: _release_uid,
    UID_RANGE: _release_uid_range,
    DISK: _release_disk,
    MOUNT: _release_mount,
    LINK: _release_link,
}
