"""Starting an instance: intent first, then everything else, and all of it undone if it fails."""

from __future__ import annotations

from datetime import UTC, datetime

from hvcore.deadline import Deadline
from hvcore.errors import HvError, NodeError, VerifyError
from hvcore.host.process import boot_id
from hvcore.job import Job
from hvcore.loader import LoadedDriver, without_secrets
from hvcore.model.codec import encode
from hvcore.model.info import Outcome
from hvcore.model.instance import Instance
from hvcore.model.record import Phase, Record
from hvcore.model.state import Already, Op, State
from hvcore.operations.context import LOCK_WAIT_S, Context
from hvcore.operations.look import Seen, judged, look
from hvcore.operations.recover import settle
from hvcore.operations.release import release_all

__all__ = ["start"]


def start(context: Context, loaded: LoadedDriver, instance: Instance, *, paused: bool, deadline: Deadline) -> Outcome:
    """Start the instance and return when it is ready. Started already is fine, and says so.

    Raises `ParamsError` and `VerifyError` before anything is touched, `BusyError`, `StateError`, and
    `OperationError` when it did not come up; then nothing of it is left.
    """
    layers = context.layers(instance)
    params = loaded.check(instance, layers)
    spec = loaded.driver.plan(instance, params)
    name, kept = instance.name, without_secrets(instance, loaded.schema)
    with context.store.lock(name, "start", wait_s=deadline.left(at_most=LOCK_WAIT_S)):
        settle(context, name, deadline)
        seen = look(context, name)
        verdict = judged(name, seen, Op.START)
        if isinstance(verdict, Already):
            notes = _differences(seen, kept)
            return Outcome(name=name, op=Op.START, changed=False, state=verdict.state, notes=notes)
        if seen.record is not None:
            _clear_up(context, seen.record, deadline)
        problems = loaded.verify(spec, params, context.host)
        if problems:
            raise VerifyError(name, layers.placed(problems, params))
        for _ in loaded.hooks.each("before_start", instance=instance, params=params):
            pass
        record = Record(
            name=name,
            driver=loaded.name,
            phase=Phase.STARTING,
            boot_id=boot_id(),
            instance=kept,
            spec=encode(spec),
            paused=paused,
            withheld=tuple(sorted(set(instance.params) - set(kept.params))),
            started_at=datetime.now(UTC).timestamp(),
        )
        _bring_up(context, loaded, spec, record, deadline)
    state = State.PAUSED if paused else State.RUNNING
    outcome = Outcome(name=name, op=Op.START, changed=True, state=state, seconds=deadline.spent())
    notes = loaded.hooks.notes("after_start", instance=instance, params=params, outcome=outcome)
    return Outcome(name=name, op=Op.START, changed=True, state=state, seconds=outcome.seconds, notes=notes)


def _bring_up(context: Context, loaded: LoadedDriver, spec: object, record: Record, deadline: Deadline) -> None:
    context.store.create(record.name)
    job = context.job(record, deadline)
    try:
        job.update()
        loaded.driver.start(spec, job)
        job.update(phase=Phase.RUNNING)
    except BaseException as error:
        for failure in _undone(context, loaded, job):
            error.add_note(failure)
        if isinstance(error, OSError) and not isinstance(error, HvError):
            place = "" if error.filename is None else f" for {error.filename!r}"
            what = f"{record.name}: cannot be started, got {error.strerror or error}{place}"
            raise NodeError(f"{what}; make room or repair {context.host.run_dir}") from error
        raise


def _undone(context: Context, loaded: LoadedDriver, job: Job) -> tuple[str, ...]:
    """Release what a start that failed had acquired; what went wrong with that."""
    try:
        release_all(context, loaded.driver, job)
    except HvError as left:
        return (str(left),)
    return _told_gone(loaded, job.record)


def _clear_up(context: Context, record: Record, deadline: Deadline) -> None:
    """Release what an instance that has ended by itself still holds."""
    loaded = context.driver(record.driver)
    release_all(context, loaded.driver, context.job(record, deadline))
    _told_gone(loaded, record)


def _told_gone(loaded: LoadedDriver, record: Record) -> tuple[str, ...]:
    outcome = Outcome(name=record.name, op=Op.CLEANUP, changed=True, state=State.STOPPED, rung="gone")
    return loaded.hooks.notes("after_stop", instance=record.instance, outcome=outcome)


def _differences(seen: Seen, instance: Instance) -> tuple[str, ...]:
    # By what is kept of them: a list in the one is a tuple in the other.
    if seen.record is None or encode(seen.record.instance) == encode(instance):
        return ()
    return ("it runs as it was defined when it was started; the changes take effect at the next start",)
