"""What the target of a migration does to the instance, once its journal allows it. Each can be repeated after a crash."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hvcore.errors import DiskInUse, HvError, InputError, OperationError, VerifyError
from hvcore.host.processes.process import boot_id
from hvcore.model.answers import Outcome
from hvcore.model.migration.entry import JournalEntry, MigrationMode
from hvcore.model.migration.messages import MigrationRequest
from hvcore.model.record import Phase, Record
from hvcore.model.state import Op
from hvcore.operations.inspection.observe import observed, observer_of
from hvcore.operations.lifecycle.start import refuse_incomplete
from hvcore.operations.migration.moving import Moving, given
from hvcore.operations.recovery.release import release_ended
from hvcore.operations.saved_params import saved_params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["arriving_record", "land_again", "launch", "refuse_landing", "run_landed"]

_RUN_MEANWHILE: Final = frozenset({MigrationMode.LIVE, MigrationMode.POSTCOPY})


def refuse_landing(moving: Moving, request: MigrationRequest) -> None:
    """Raise `VerifyError`, `OperationError` or `InputError` for an instance that this node cannot take. Changes nothing."""
    offer, wish = given(request.offer, "offer"), given(request.wish, "wish")
    if offer.instance.name != moving.name or offer.driver != offer.instance.driver:
        raise InputError(f"{moving.name}: the offer is one of {offer.instance.name!r:.80}; ask the source again")
    if offer.blockers:
        raise OperationError(f"{moving.name}: cannot move now: {'; '.join(offer.blockers)}")
    if offer.live_blockers and wish.mode in _RUN_MEANWHILE:
        what = f"cannot run while it is sent: {'; '.join(offer.live_blockers)}"
        raise OperationError(f"{moving.name}: {what}; let it be paused meanwhile ('hv migrate --paused')")
    if wish.mode == MigrationMode.COLD and offer.withheld:
        what = f"cannot move cold, secret {', '.join(offer.withheld)} is saved nowhere"
        raise OperationError(f"{moving.name}: {what}; stop it, and start it there from its file")
    loaded, record = moving.context.driver(offer.driver), arriving_record(moving, request)
    refuse_incomplete(loaded)
    spec, host = _spec(loaded, record), moving.arriving(wish.storage).host
    problems = loaded.verify(spec, saved_params(loaded, record), host)
    if wish.mode != MigrationMode.COLD:
        loaded.able(Op.MIGRATE)
        problems = (*problems, *loaded.refusals(spec, host, offer, wish))
    elif wish.storage == "shared":  # the source has it mounted until it stops, and the start here checks it again
        problems = tuple(problem for problem in problems if not isinstance(problem, DiskInUse))
    if problems:
        raise VerifyError.refusal(moving.name, problems)


def arriving_record(moving: Moving, request: MigrationRequest) -> Record:
    """The record of an instance that is expected here."""
    offer = given(request.offer, "offer")
    loaded = moving.context.driver(offer.driver)
    record = Record(
        name=moving.name,
        driver=offer.driver,
        phase=Phase.ARRIVING,
        boot_id=boot_id(),
        instance=offer.instance,
        spec=offer.spec,
        paused=request.wanted == "paused",
        params=offer.params or None,
        withheld=offer.withheld,
        started_at=datetime.now(UTC).timestamp(),
        observer=observer_of(loaded.driver),
    )
    return replace(record, devices=loaded.device_names(_spec(loaded, record)))


def _spec(loaded: LoadedDriver, record: Record) -> Any:
    """The spec, of the class that the driver plans now: not every driver says which class that is."""
    try:
        planned = type(loaded.plan(record.instance, saved_params(loaded, record)))
    except HvError:  # such as an instance that this release refuses; the class may be known without it
        planned = None
    return loaded.read_spec(record.spec, planned)


def launch(moving: Moving, entry: JournalEntry, request: MigrationRequest) -> None:
    """Start the program, which waits for the state of the instance. If that fails, it is undone."""
    offer, wish = given(request.offer, "offer"), given(request.wish, "wish")
    context = moving.arriving(entry.storage)
    record, loaded = moving.record or arriving_record(moving, request), context.driver(offer.driver)
    for _ in loaded.hooks.each("before_start", instance=offer.instance, params=saved_params(loaded, record)):
        pass
    context.store.create(moving.name)
    job = context.job(record, moving.deadline, loaded)
    try:
        job.update()
        moving.landings.append(loaded.land(_spec(loaded, job.record), job, offer, wish))
        job.update()
    except BaseException as error:
        job.held.close()
        try:
            left = release_ended(context, loaded, job).notes
        except HvError as failure:
            left = (str(failure),)
        for note in left:
            error.add_note(note)
        raise
    finally:
        job.held.close()
    moving.notes.extend(job.remarks)


def land_again(moving: Moving, request: MigrationRequest) -> None:
    """Find out where the program waits, for a caller who asks again."""
    offer, wish = given(request.offer, "offer"), given(request.wish, "wish")
    with moving.at_work(moving.record) as (job, loaded):
        moving.landings.append(loaded.land(_spec(loaded, job.record), job, offer, wish))


def run_landed(moving: Moving, entry: JournalEntry) -> None:
    """Let the instance run, or leave it paused. Raises `OperationError` if the program refuses."""
    if entry.mode is MigrationMode.COLD:
        moving.start_kept(paused=entry.wanted == "paused")
        return
    with moving.at_work(moving.record) as (job, loaded):
        loaded.run_landed(job.live, job)
        job.update(phase=Phase.RUNNING)
    state = observed(moving.context, moving.name).state
    outcome = Outcome(name=moving.name, op=Op.START, changed=True, state=state, seconds=moving.deadline.spent())
    record = job.record
    about = {"instance": record.instance, "params": saved_params(loaded, record), "outcome": outcome}
    moving.notes.extend(loaded.hooks.notes("after_start", **about))
