"""What the source of a migration does to the instance, once its journal allows it. Each can be repeated after a crash."""

from __future__ import annotations

from hvcore.model.migration.entry import JournalEntry, MigrationMode
from hvcore.model.migration.messages import MigrationRequest
from hvcore.model.state import Op, State
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.stop import stop_locked
from hvcore.operations.migration.moving import Moving, given

__all__ = ["cancel_and_run", "cancel_transfer", "continue_transfer", "send", "start_afresh", "switch_to_postcopy"]


def send(moving: Moving, entry: JournalEntry, request: MigrationRequest) -> None:
    """Begin the transfer. For a cold migration, stop the instance."""
    if entry.mode is MigrationMode.COLD:
        outcome = stop_locked(moving.context, moving.name, force=False, deadline=moving.deadline)
        moving.notes.extend(outcome.notes)
        return
    landing, wish = given(request.landing, "landing"), given(request.wish, "wish")
    with moving.at_work(moving.record) as (job, loaded):
        loaded.send(job.live, job, landing, str(entry.mode), wish.tuning)


def continue_transfer(moving: Moving) -> None:
    """End the copies of disks, and let the switchover go on."""
    with moving.at_work(moving.record) as (job, loaded):
        loaded.continue_transfer(job.live, job)


def switch_to_postcopy(moving: Moving) -> None:
    """Let the instance run on the target before all of its memory is there."""
    with moving.at_work(moving.record) as (job, loaded):
        loaded.switch_to_postcopy(job.live, job)


def cancel_transfer(moving: Moving) -> None:
    """End the transfer, unless it was switched to postcopy."""
    with moving.at_work(moving.record) as (job, loaded):
        loaded.cancel_transfer(job.live, job)


def cancel_and_run(moving: Moving, entry: JournalEntry) -> None:
    """Let the instance go on where it was. Nothing is left to do if its program has ended."""
    record = moving.lives
    if record is None:
        return
    with moving.at_work(record) as (job, loaded):
        loaded.cancel_transfer(job.live, job)
        job.update()
        if entry.wanted == "running" and observed(moving.context, moving.name).state is State.PAUSED:
            loaded.able(Op.RESUME)(job.live, job)


def start_afresh(moving: Moving, entry: JournalEntry) -> None:
    """End what is left of the instance, and start its machine again."""
    if entry.mode is not MigrationMode.COLD:  # its program has the memory of before
        moving.end()
    moving.start_kept(paused=entry.wanted == "paused")
