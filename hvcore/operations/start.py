"""Starting an instance: intent first, then everything else, and all of it undone if it fails."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hvcore.deadline import Deadline
from hvcore.errors import DriverLoadError, HvError, NodeError, VerifyError
from hvcore.host.processes.process import boot_id
from hvcore.model.codec import encode, encoded
from hvcore.model.instance import Instance
from hvcore.model.layers import Layers
from hvcore.model.outcome import Outcome
from hvcore.model.record import Phase, Record
from hvcore.model.state import Already, Op
from hvcore.operations.context import LOCK_WAIT_S, Context
from hvcore.operations.observe import Seen, judged, look, observer_of
from hvcore.operations.recover import settle
from hvcore.operations.release import gone
from hvcore.params.values import Params
from hvcore.state.job import Job

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # with pluggy and metadata: not for those who load no driver

__all__ = ["Wanted", "announced", "decide", "refuse_incomplete", "refuse_secrets", "start", "start_locked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """An instance that has been checked, and what its driver has decided about it. Nothing was looked at or done.

    ``source`` and ``recorded`` are what the record keeps: the instance file, and the parameters without secrets.
    """

    instance: Instance
    layers: Layers
    params: Params
    spec: object
    paused: bool = False
    source: str = ""
    recorded: dict[str, Any] | None = None


def decide(
    loaded: LoadedDriver, instance: Instance, layers: Layers, *, paused: bool = False, source: str = ""
) -> Wanted:
    """Check the instance and let the driver decide its spec. Pure.

    Raises `ParamsError`, and `DriverLoadError` when a part of the driver is missing or would write a secret down.
    """
    refuse_incomplete(loaded)
    params = loaded.check(instance, layers)
    spec = loaded.plan(instance, params)
    refuse_secrets(loaded, params, spec)
    return Wanted(
        instance=instance,
        layers=layers,
        params=params,
        spec=spec,
        paused=paused,
        source=source,
        recorded=encode(params.kept()),
    )


def refuse_incomplete(loaded: LoadedDriver) -> None:
    """Raise `DriverLoadError` when an extension of the driver was left out."""
    if loaded.skipped:
        raise DriverLoadError(
            f"driver {loaded.name}: nothing is started with a part of it missing: {loaded.skipped[0]}"
        )


def refuse_secrets(loaded: LoadedDriver, params: Params, spec: object) -> None:
    """Raise `DriverLoadError` when the value of a secret parameter is in the spec."""
    secrets = [params[key] for key, param in loaded.schema.params.items() if param.secret and params[key] is not None]
    if secrets and any(json.dumps(secret)[1:-1] in encoded(spec) for secret in secrets):
        what = "puts a secret parameter into its spec, which is written to disk"
        raise DriverLoadError(f"driver {loaded.name}: {what}; report this to its authors")


def start(
    context: Context, loaded: LoadedDriver, instance: Instance, *, paused: bool, deadline: Deadline, source: str = ""
) -> Outcome:
    """Start the instance and return when it is ready. Started already is fine, and says so.

    ``source`` is the absolute path of the file that describes the instance, empty when there is none.

    Raises `ParamsError` and `VerifyError` before anything is touched, `BusyError`, `StateError`, and
    `OperationError` when it did not come up; then nothing of it is left.
    """
    wanted = decide(loaded, instance, context.layers(instance), paused=paused, source=source)
    with context.store.lock(instance.name, "start", wait_s=deadline.left(at_most=LOCK_WAIT_S)):
        settle(context, instance.name, deadline)
        outcome = start_locked(context, loaded, wanted, deadline)
    return announced(loaded, wanted, outcome)


def start_locked(context: Context, loaded: LoadedDriver, wanted: Wanted, deadline: Deadline) -> Outcome:
    """As `start`, for a caller that holds the lock of an instance that is settled. The hooks are not told yet."""
    name, kept = wanted.instance.name, loaded.without_secrets(wanted.instance)
    seen = look(context, name)
    verdict = judged(name, seen, Op.START)
    if isinstance(verdict, Already):
        notes = _differences(seen, kept)
        return Outcome(name=name, op=Op.START, changed=False, state=verdict.state, notes=notes)
    notes = () if seen.record is None else _clear_up(context, seen.record, deadline)
    problems = loaded.verify(wanted.spec, wanted.params, context.host)
    if problems:
        raise VerifyError(name, wanted.layers.placed(problems, wanted.params))
    for _ in loaded.hooks.each("before_start", instance=wanted.instance, params=wanted.params):
        pass
    record = Record(
        name=name,
        driver=loaded.name,
        phase=Phase.STARTING,
        boot_id=boot_id(),
        instance=kept,
        spec=encode(wanted.spec),
        paused=wanted.paused,
        withheld=wanted.params.withheld(),
        params=wanted.recorded,
        source=wanted.source,
        started_at=datetime.now(UTC).timestamp(),
        observer=observer_of(loaded.driver),
    )
    _bring_up(context, loaded, wanted.spec, record, deadline)
    # As it is now: a script may have left nothing that runs.
    state = look(context, name).state
    return Outcome(name=name, op=Op.START, changed=True, state=state, seconds=deadline.spent(), notes=notes)


def announced(loaded: LoadedDriver, wanted: Wanted, outcome: Outcome) -> Outcome:
    """Tell the hooks that the instance runs; the outcome with what went wrong in them."""
    if not outcome.changed:
        return outcome
    told = {"instance": wanted.instance, "params": wanted.params, "outcome": outcome}
    return replace(outcome, notes=(*outcome.notes, *loaded.hooks.notes("after_start", **told)))


def _bring_up(context: Context, loaded: LoadedDriver, spec: object, record: Record, deadline: Deadline) -> None:
    context.store.create(record.name)
    job = context.job(record, deadline, loaded)
    try:
        job.update()
        loaded.start(spec, job)
        job.update(phase=Phase.RUNNING)
    except BaseException as error:
        for failure in _undone(context, loaded, job):
            error.add_note(failure)
        if isinstance(error, OSError) and not isinstance(error, HvError):
            place = "" if error.filename is None else f" for {error.filename!r}"
            what = f"{record.name}: cannot be started, got {error.strerror or error}{place}"
            raise NodeError(f"{what}; make room or repair {context.host.run_dir}") from error
        raise
    finally:
        job.held.close()


def _undone(context: Context, loaded: LoadedDriver, job: Job) -> tuple[str, ...]:
    """Release what a start that failed had acquired; what went wrong with that."""
    try:
        return gone(context, loaded, job).notes
    except HvError as left:
        return (str(left),)


def _clear_up(context: Context, record: Record, deadline: Deadline) -> tuple[str, ...]:
    """Release what an instance that has ended by itself still holds; what went wrong in the hooks that were told."""
    loaded = context.driver(record.driver)
    return gone(context, loaded, context.job(record, deadline, loaded)).notes


def _differences(seen: Seen, instance: Instance) -> tuple[str, ...]:
    # By what is kept of them: a list in the one is a tuple in the other.
    if seen.record is None or encode(seen.record.instance) == encode(instance):
        return ()
    return ("it runs as it was defined when it was started; the changes take effect at the next start",)
