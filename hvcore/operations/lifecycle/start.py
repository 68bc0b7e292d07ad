"""Starting an instance: the record first, then everything else; all of it is undone if the start fails."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from hvcore.deadline import Deadline
from hvcore.errors import BusyError, DriverLoadError, HvError, NodeError, VerifyError
from hvcore.frozen import dataclass
from hvcore.host.processes.process import boot_id
from hvcore.model.answers import Outcome
from hvcore.model.codec import encode, encoded
from hvcore.model.instance import Instance
from hvcore.model.layers import Layers
from hvcore.model.record import Phase, Record
from hvcore.model.state import Already, Op
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed, observer_of, verdict_on
from hvcore.operations.open_job import refuse_open
from hvcore.operations.recovery.recover import settle
from hvcore.operations.recovery.release import release_ended
from hvcore.params.values import Params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = [
    "Decided",
    "call_after_start",
    "decide",
    "refuse_incomplete",
    "refuse_secrets",
    "refuse_unverified",
    "start",
    "start_locked",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A checked instance with the spec that its driver decided. The node was neither read nor changed.

    The record keeps ``source``, the instance file, and ``recorded``, the parameters without secrets.
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
) -> Decided:
    """Check the instance and let the driver decide its spec. Pure.

    Raises `ParamsError`, and `DriverLoadError` when a part of the driver is missing or would write a secret down.
    """
    refuse_incomplete(loaded)
    params = loaded.check(instance, layers)
    spec = loaded.plan(instance, params)
    refuse_secrets(loaded, params, spec)
    kept = encode(params.kept())
    return Decided(
        instance=instance, layers=layers, params=params, spec=spec, paused=paused, source=source, recorded=kept
    )


def refuse_incomplete(loaded: LoadedDriver) -> None:
    """Raise `DriverLoadError` when an extension of the driver was left out."""
    if loaded.skipped:
        raise DriverLoadError(f"driver {loaded.name}: starts no instance without its extension: {loaded.skipped[0]}")


def refuse_secrets(loaded: LoadedDriver, params: Params, spec: object) -> None:
    """Raise `DriverLoadError` when the spec has the value of a secret parameter."""
    secrets = [params[key] for key, param in loaded.schema.params.items() if param.secret and params[key] is not None]
    if secrets and any(json.dumps(secret)[1:-1] in encoded(spec) for secret in secrets):
        what = "puts a secret parameter into its spec, which is written to disk"
        raise DriverLoadError(f"driver {loaded.name}: {what}; report this to its authors")


def refuse_unverified(context: Context, loaded: LoadedDriver, decided: Decided) -> None:
    """Raise `VerifyError` with every problem that keeps this node from running the instance."""
    problems = loaded.verify(decided.spec, decided.params, context.host)
    if problems:
        raise VerifyError.refusal(decided.instance.name, decided.layers.placed(problems, decided.params))


def start(
    context: Context, loaded: LoadedDriver, instance: Instance, *, paused: bool, deadline: Deadline, source: str = ""
) -> Outcome:
    """Start the instance and return when it is ready. Changes nothing if the instance already runs.

    ``source`` is the absolute path of the instance file, empty without one. Raises `ParamsError` and `VerifyError` before
    anything changes, `BusyError`, `StateError`, and `OperationError` when the instance did not come up and was undone.
    """
    decided = decide(loaded, instance, context.layers(instance), paused=paused, source=source)
    with context.store.lock(instance.name, "start", wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, instance.name, deadline)
        outcome = start_locked(context, loaded, decided, deadline)
        context.store.kept(instance.name).drop()
    return call_after_start(loaded, decided, outcome)


def start_locked(
    context: Context, loaded: LoadedDriver, decided: Decided, deadline: Deadline, *, by_migration: bool = False
) -> Outcome:
    """Like `start`, for a caller that holds the lock of a settled instance. Does not call hook ``after_start``.

    ``by_migration``: the open migration of the instance is what starts it.
    """
    name, kept = decided.instance.name, loaded.without_secrets(decided.instance)
    seen = observed(context, name)
    verdict = verdict_on(name, seen, Op.START)
    notes: tuple[str, ...] = ()
    if isinstance(verdict, Already):
        if seen.record is not None and (changed := _changed(seen.record, decided, kept)):
            what = "it runs with the settings of its start"
            notes = (f"{what}; the changes of {', '.join(changed)} take effect after hv stop and hv start",)
        return Outcome(name=name, op=Op.START, changed=False, state=verdict.state, notes=notes)
    if not by_migration:
        refuse_open(context, name, Op.START)
    if seen.record is not None:  # an instance that has ended
        old = context.driver(seen.record.driver)
        notes = release_ended(context, old, context.job(seen.record, deadline, old)).notes
    refuse_unverified(context, loaded, decided)
    for _ in loaded.hooks.each("before_start", instance=decided.instance, params=decided.params):
        pass
    record = Record(
        name=name,
        driver=loaded.name,
        phase=Phase.STARTING,
        boot_id=boot_id(),
        instance=kept,
        spec=encode(decided.spec),
        paused=decided.paused,
        withheld=decided.params.withheld(),
        params=decided.recorded,
        source=decided.source,
        started_at=datetime.now(UTC).timestamp(),
        observer=observer_of(loaded.driver),
        devices=loaded.device_names(decided.spec),
    )
    notes = (*notes, *_bring_up(context, loaded, decided.spec, record, deadline))
    # Read again: a script may have left no process.
    state = observed(context, name).state
    return Outcome(name=name, op=Op.START, changed=True, state=state, seconds=deadline.spent(), notes=notes)


def _changed(running: Record, decided: Decided, kept: Instance) -> list[str]:
    """The fields whose settings differ from those of the running instance, such as ``disks`` and ``params.vnc``.

    Raises `BusyError` when another instance has the name: one of another driver, uuid or file.
    """
    name, (own, other) = running.name, (running.instance, kept)
    # Compared as JSON: a list in the one is a tuple in the other.
    changed = _differences(encode(own), encode(other))
    todo = f"give this instance another name, or use 'hv stop {name}' first"
    for key, before, after in (("driver", own.driver, other.driver), ("uuid", own.uuid, other.uuid)):
        if before != after:
            raise BusyError(
                f"{name}: another instance runs under this name, with {key} {before} and not {after}; {todo}"
            )
    files = (running.source, decided.source)
    if changed and all(files) and os.path.realpath(files[0]) != os.path.realpath(files[1]):
        raise BusyError(f"{name}: another instance runs under this name, from {files[0]!r}; {todo}")
    return changed


def _differences(own: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names of the fields in which two instances differ, as plain JSON; each parameter by its key."""
    names = [key for key in sorted({*own, *other} - {"params"}) if own.get(key) != other.get(key)]
    before, after = own["params"], other["params"]
    keys = (key for key in sorted({*before, *after}) if before.get(key) != after.get(key))
    return [*names, *(f"params.{key}" for key in keys)]


def call_after_start(loaded: LoadedDriver, decided: Decided, outcome: Outcome) -> Outcome:
    """The outcome, after hook ``after_start`` if the instance was started; its failures become notes."""
    if not outcome.changed:
        return outcome
    arguments = {"instance": decided.instance, "params": decided.params, "outcome": outcome}
    return replace(outcome, notes=(*outcome.notes, *loaded.hooks.notes("after_start", **arguments)))


def _bring_up(
    context: Context, loaded: LoadedDriver, spec: object, record: Record, deadline: Deadline
) -> tuple[str, ...]:
    """Start it; the driver's notes for the outcome."""
    context.store.create(record.name)
    job = context.job(record, deadline, loaded)
    try:
        job.update()
        loaded.start(spec, job)
        job.update(phase=Phase.RUNNING)
        return tuple(dict.fromkeys(job.remarks))
    except BaseException as error:
        try:
            failures = release_ended(context, loaded, job).notes
        except HvError as left:
            failures = (str(left),)
        for failure in failures:
            error.add_note(failure)
        if isinstance(error, OSError) and not isinstance(error, HvError):
            place = "" if error.filename is None else f" for {error.filename!r}"
            what = f"{record.name}: cannot be started, got {error.strerror or error}{place}"
            raise NodeError(f"{what}; free some space there, or repair {context.host.run_dir}") from error
        raise
    finally:
        job.held.close()
