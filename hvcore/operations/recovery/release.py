"""Giving back what an instance holds, from its ledger: after a stop, a failed start, or a crash."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from hvcore.deadline import Deadline
from hvcore.errors import LeftoverError, NodeError
from hvcore.host.cgroups.hierarchy import group_name, program_group_name
from hvcore.host.launching.launch import reap
from hvcore.host.launching.launch_notes import forget_launch
from hvcore.host.mount_table import unmount_below
from hvcore.host.network.marked import Marked, marked, remove_marked
from hvcore.host.processes.launched import life_locks, marked_for
from hvcore.host.processes.process import identify, kill_and_wait
from hvcore.host.processes.search import rooted
from hvcore.host.reservations import may_have_reserved, release_reservations
from hvcore.model.answers import Outcome
from hvcore.model.record import LIFE_LOCK
from hvcore.model.state import Op, State
from hvcore.operations.context import Context
from hvcore.operations.saved_params import saved_params
from hvcore.resources.control_group import end_group
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.resources.instance_process import end_members, refuse_unseen
from hvcore.resources.owner import REPORTED
from hvcore.state.job import Job

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # with pluggy and metadata: not for those who load no driver

__all__ = ["end_found", "release_ended", "release_without_driver", "release_without_record"]

QUARANTINED: Final = "quarantined"
"""In the record's bindings: where a release moved files that the guest left."""

_KILL_S: Final = 5.0


def release_ended(context: Context, loaded: LoadedDriver, job: Job, outcome: Outcome | None = None) -> Outcome:
    """Release what an ended instance holds, then call hook ``after_stop``; its failures are notes of the outcome.

    ``outcome`` says how the instance ended; default: it was gone. Raises `LeftoverError` before the hook is called.
    """
    job.release()
    if context.host.between is None:  # else the start of a reboot takes over what is reserved
        _release_reserved(context, job.name)
    context.store.remove(job.name)
    forget_launch(job.dir, str(job.record.started_at))
    reap()
    gone = Outcome(name=job.name, op=Op.CLEANUP, changed=True, state=State.STOPPED, stopped_by="gone")
    outcome = replace(outcome or gone, seconds=job.deadline.spent())
    if kept := job.record.bindings.get(QUARANTINED):
        left = f"the guest left files in its private directory; they are in {kept}"
        outcome = replace(outcome, notes=(*outcome.notes, left))
    reported = tuple(job.record.bindings.get(REPORTED, ()))
    outcome = replace(outcome, notes=(*outcome.notes, *reported))
    record = job.record
    given = {"instance": record.instance, "params": saved_params(loaded, record), "outcome": outcome}
    failures = loaded.hooks.notes("after_stop", **given)
    return replace(outcome, notes=(*outcome.notes, *failures))


def _release_reserved(context: Context, name: str) -> None:
    """Free everything that the instance has reserved, also what its ledger does not name. Raises `LeftoverError`."""
    reservations = context.host.run_dir / "reservations"
    try:
        if may_have_reserved(reservations, name):
            release_reservations(reservations, name)
    except OSError as error:
        what = f"{name}: its reservations cannot be released, got {error.strerror}"
        raise LeftoverError(f"{what}; check the file system of {reservations.parent}") from error


def release_without_record(context: Context, name: str) -> list[str]:
    """End and release what can be found of an instance whose record is unreadable. Returns notes.

    Its processes hold the life lock or are in its control group. Its reservations have its name, its mounts are below its
    directory, and its interfaces have its mark.
    """
    links = [thing for thing in marked(context.host.run_dir) if thing.instance == name]
    done = end_found(context, name)
    reap()
    refuse_unseen(name, *life_locks(context.store.dir(name)))
    done += [note for link in links if (note := _without(link)) is not None]
    _give_back(context, name)
    kept = context.store.set_aside(name)
    if kept is not None:
        what = "the damaged record" if context.store.dir(name).exists() else "the file in its place"
        done.append(f"kept {what} as {kept}")
    context.store.remove(name)
    return done


def _without(link: Marked) -> str | None:
    """Remove it: why it cannot be removed, or None."""
    try:
        remove_marked(link)
    except (OSError, NodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return f"cannot remove {link.what} {link.name}, got {why}; use {link.command}"
    return None


def release_without_driver(context: Context, job: Job) -> list[str]:
    """End and release an instance whose driver cannot be used. Returns notes.

    Names what only the driver can release, and keeps the record aside then. Raises `LeftoverError` when a resource of
    the core cannot be released; the record is then unchanged.
    """
    ledger = job.record.ledger
    known = [(entry, kind) for entry in ledger if (kind := CORE_KINDS.named(entry.kind)) is not None]
    done: list[str] = []
    for runs in (True, False):
        _, failure = CORE_KINDS.release([entry for entry, kind in known if kind.runs is runs], job)
        if failure is not None:
            raise failure
        if runs:
            done = end_found(context, job.name)
    _give_back(context, job.name)
    done += job.record.bindings.get(REPORTED, ())
    foreign = sorted({entry.kind for entry in ledger} - set(CORE_KINDS.names))
    if foreign:
        what = f"only driver {job.record.driver} can release {', '.join(foreign)}"
        done.append(f"{what}: its record is kept as {context.store.set_aside(job.name)}")
    context.store.remove(job.name)
    forget_launch(job.dir, str(job.record.started_at))
    reap()
    return done


def end_found(context: Context, name: str) -> list[str]:
    """End every process of the instance that can be found without its record. Returns notes."""
    directory, host = context.store.dir(name), context.host
    deadline = Deadline(_KILL_S)
    ended = end_members(name, directory, deadline=deadline)
    for life in life_locks(directory)[1:]:
        program = life.name.removesuffix(f".{LIFE_LOCK}")
        ended += end_members(name, directory, program, deadline=deadline)
        ended += end_group(host, program_group_name(host.run_dir, name, program))
    marked = reversed(marked_for(directory, host.uid_pool))  # children first: their parents collect them
    for process in (*map(identify, marked), *rooted(directory)):
        if process is not None and kill_and_wait(process, subject=name, deadline_s=_KILL_S):
            ended.append(process.pid)
    ended += end_group(host, group_name(host.run_dir, name))
    return [f"ended pid {pid}" for pid in ended]


def _give_back(context: Context, name: str) -> None:
    """Unmount everything below the instance's directory, and free its reservations."""
    unmount_below(str(context.store.dir(name).resolve()))
    _release_reserved(context, name)
