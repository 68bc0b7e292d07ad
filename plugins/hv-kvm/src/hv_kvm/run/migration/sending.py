"""The source of a migration: begun, changed while it runs, switched to postcopy, cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import hvcore.plugin as hv
from hv_kvm.qmp import QmpClient, QmpCommandError, commands, migration_commands, reach
from hv_kvm.run.migration import capabilities, disk_copies, stream
from hv_kvm.run.migration.credentials import credentials
from hv_kvm.run.migration.offering import tuning_of
from hv_kvm.run.migration.progress import SENDING, state_of
from hv_kvm.run.migration.relay import MAIN

__all__ = ["cancel_transfer", "continue_transfer", "send", "switch_to_postcopy", "tune_transfer"]


_State = hv.TransferState
_IDLE: Final = frozenset({_State.NONE, _State.FAILED, _State.CANCELLED})
# QEMU 7.2 obeys a cancel in each state, also in postcopy, when two copies could run.
_CANCELLABLE: Final = frozenset({_State.SETUP, _State.ACTIVE, _State.DEVICE, _State.PRE_SWITCHOVER})
_POSTCOPY: Final = frozenset({_State.POSTCOPY_ACTIVE, _State.POSTCOPY_PAUSED, _State.POSTCOPY_RECOVER})


def send(job: hv.Job, landing: hv.Landing, mode: str, tuning: hv.Tuning) -> None:
    """Begin to send the guest to where it waits, unless that was begun for this job. Raises `OperationError`."""
    if not landing.host:
        raise hv.InputError(
            f"{job.name}: landing.host: is empty; give the address by which this node reaches the target"
        )
    with reach(job.dir, job.deadline.left()) as client:
        sending, state = job.record.bindings.get(SENDING, {}), _state(client, job)
        same = sending.get("job") == landing.job
        if same and (sending["sent"] or state not in _IDLE):
            _note(job, sent=True)
            return  # it may have failed since: a job sends once
        if state not in _IDLE:
            raise hv.OperationError(f"{job.name}: another migration of it is on the way; finish that one first")
        if same and sending["disks"]:
            _begin(client, job, tuning)
            return
        if mode == hv.MigrationMode.PAUSED:
            commands.stop(client, deadline_s=job.deadline.left())
        disk_copies.drop_copies(client, sending.get("disks", ()), job)
        stream.close_stream(job, client)
        facts = {"job": landing.job, "disks": list(landing.disks), "copied": False, "sent": False, "switched": False}
        job.update(bindings={**job.record.bindings, SENDING: facts})
        own = credentials(job.dir) if landing.certificate else None
        stream.send_to(job, client, landing, own)
        speed = _complete(tuning, job)
        with _refusals(job):
            capabilities.set_for(client, speed, mode, mirror=bool(landing.disks), deadline_s=job.deadline.left())
        _begin(client, job, tuning)


def _begin(client: QmpClient, job: hv.Job, tuning: hv.Tuning) -> None:
    """Begin to copy the disks. Without any, begin to send the guest."""
    disks = job.record.bindings[SENDING]["disks"]
    if not disks:
        _migrate(client, job)
        return
    with _refusals(job):
        bandwidth_bps = _complete(tuning, job).bandwidth_bps or 0
        disk_copies.begin_copies(client, stream.place_of(job, stream.DISKS), disks, bandwidth_bps, job)


def _migrate(client: QmpClient, job: hv.Job) -> None:
    with _refusals(job):
        migration_commands.migrate(client, stream.uri_of(job, MAIN), deadline_s=job.deadline.left())
    _note(job, sent=True)


@contextmanager
def _refusals(job: hv.Job) -> Iterator[None]:
    try:
        yield
    except QmpCommandError as error:
        raise hv.OperationError(f"{job.name}: QEMU does not send the guest: {error.desc}; see hv info") from error


def continue_transfer(job: hv.Job) -> None:
    """Send the guest, whose disks are copied; later, when it has stopped, end the copies and let it switch over.

    Raises `OperationError` if a copy has failed. The migration is cancelled then.
    """
    with reach(job.dir, job.deadline.left()) as client:
        sending, state = job.record.bindings.get(SENDING), _state(client, job)
        if sending is None:
            raise hv.OperationError(f"{job.name}: no migration of it has begun here; start one")
        if not sending["sent"] and state is _State.NONE:
            found = disk_copies.copies(client, sending["disks"], deadline_s=job.deadline.left())
            if found.error is not None:
                raise _copy_failed(job, found.error)
            if found.ready:
                _migrate(client, job)
        elif state is _State.PRE_SWITCHOVER:
            error = None if sending["copied"] else disk_copies.end_copies(client, sending["disks"], job)
            if error is not None:
                migration_commands.migrate_cancel(client, deadline_s=job.deadline.left())
                _wait_until(client, job, _IDLE)
                raise _copy_failed(job, error)
            _note(job, copied=True)
            disk_copies.drop_copies(client, sending["disks"], job)
            migration_commands.migrate_continue(client, str(state), deadline_s=job.deadline.left())


def _copy_failed(job: hv.Job, error: str) -> hv.OperationError:
    return hv.OperationError(f"{job.name}: the copy of a disk to the target has failed, {error}; it stays here")


def _note(job: hv.Job, **facts: object) -> None:
    """Keep facts about the migration, durably."""
    job.update(bindings={**job.record.bindings, SENDING: {**job.record.bindings[SENDING], **facts}})


def _complete(tuning: hv.Tuning, job: hv.Job) -> hv.Tuning:
    """With the values of the guest's parameters where none are given: QEMU has those of an earlier migration."""
    own = tuning_of(job.record.params or {})
    return hv.Tuning(
        bandwidth_bps=own.bandwidth_bps if tuning.bandwidth_bps is None else tuning.bandwidth_bps,
        downtime_ms=own.downtime_ms if tuning.downtime_ms is None else tuning.downtime_ms,
        caps=own.caps if tuning.caps is None else tuning.caps,
    )


def tune_transfer(job: hv.Job, tuning: hv.Tuning) -> None:
    """Set speed and downtime, also while the migration runs. Raises `InputError` for capabilities."""
    if tuning.caps is not None:
        raise hv.InputError(
            f"{job.name}: caps: cannot change while a migration runs, got {list(tuning.caps)}; cancel it"
        )
    with reach(job.dir, job.deadline.left()) as client:
        migration_commands.migrate_set_parameters(
            client, capabilities.parameters(tuning), deadline_s=job.deadline.left()
        )
        disks = job.record.bindings.get(SENDING, {}).get("disks", ())
        if tuning.bandwidth_bps is not None and disks:
            disk_copies.tune_copies(client, disks, tuning.bandwidth_bps, job)


def switch_to_postcopy(job: hv.Job) -> None:
    """From now on the guest runs on the target, as soon as that lets it. Raises `OperationError` if the state is not active."""
    with reach(job.dir, job.deadline.left()) as client:
        state = _state(client, job) if SENDING in job.record.bindings else _State.NONE
        if state in _POSTCOPY or state is _State.COMPLETED:
            return
        if state is not _State.ACTIVE:
            raise hv.OperationError(
                f"{job.name}: cannot switch to postcopy, the transfer from here is {state}; wait until it is active"
            )
        _note(job, switched=True)
        try:
            migration_commands.migrate_start_postcopy(client, deadline_s=job.deadline.left())
        except QmpCommandError as error:
            raise hv.OperationError(f"{job.name}: QEMU does not switch to postcopy: {error.desc}; cancel it") from error
        _wait_until(client, job, _POSTCOPY | _IDLE | {_State.COMPLETED})


def cancel_transfer(job: hv.Job) -> None:
    """End the migration, so that QEMU can let the guest run here. Raises `OperationError` after the switch to postcopy.

    A migration that is completed ends too: the core knows then that the guest has not run on the target, and never will.
    """
    with reach(job.dir, job.deadline.left()) as client:
        state = _state(client, job)
        if state in _CANCELLABLE:
            migration_commands.migrate_cancel(client, deadline_s=job.deadline.left())
        if state in _CANCELLABLE or state is _State.CANCELLING:
            state = _wait_until(client, job, _IDLE | _POSTCOPY | {_State.COMPLETED})
        switched = state is _State.COMPLETED and job.record.bindings[SENDING]["switched"]
        if state in _POSTCOPY or switched:
            raise hv.OperationError(
                f"{job.name}: runs on the target since the switch to postcopy; finish the migration"
            )
        sending = job.record.bindings.get(SENDING)
        if sending is not None:
            disk_copies.drop_copies(client, sending["disks"], job)
            _note(job, sent=False, disks=[])
        stream.close_stream(job, client)


def _state(client: QmpClient, job: hv.Job) -> hv.TransferState:
    status = migration_commands.query_migrate(client, deadline_s=job.deadline.left()).status
    return state_of(status, job.record.bindings)


def _wait_until(client: QmpClient, job: hv.Job, wanted: frozenset[hv.TransferState]) -> hv.TransferState:
    """The first of the wanted states, at the latest by the deadline of the job. QEMU reports each change."""
    while (state := _state(client, job)) not in wanted:
        client.wait_event("MIGRATION", deadline_s=job.deadline.left())
    return state
