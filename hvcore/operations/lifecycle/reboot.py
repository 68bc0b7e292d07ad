"""Rebooting: a real stop, waited for, then a start of the machine that the record holds.

The spec in the record is kept. Values of parameters with ``changes="launch"`` or ``"live"`` are read again, from the
instance file that the record names and from the node's own values. Their changes of a plan are made in the saved spec,
and no others: neither an upgrade of hvcore nor one of the driver changes a machine.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hvcore.config import absolute_params, reload_instance
from hvcore.deadline import Deadline
from hvcore.errors import HvError, LeftoverError, OperationError, ParamsError, Problem, StateError
from hvcore.frozen import dataclass
from hvcore.host.between_halves import BetweenHalves
from hvcore.host.hurry import hurried_deadline
from hvcore.model.answers import Outcome
from hvcore.model.codec import encode
from hvcore.model.definitions.merge import merged
from hvcore.model.instance import Instance
from hvcore.model.layers import Layers
from hvcore.model.record import RECORD_FILE, Phase, Record
from hvcore.model.state import ENDED, Op, State
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import existing_as, observed
from hvcore.operations.lifecycle.start import (
    Decided,
    call_after_start,
    refuse_incomplete,
    refuse_secrets,
    refuse_unverified,
    start_locked,
)
from hvcore.operations.lifecycle.stop import stop_locked
from hvcore.operations.lifecycle.take_over import TakingOver
from hvcore.operations.open_job import refuse_open
from hvcore.operations.recovery.recover import settle
from hvcore.params.values import DEFAULT, INSTANCE, Params
from hvcore.resources.held_between import hold
from hvcore.state.kept_record import ended_record

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["reboot", "start_saved"]

_FIELDS: Final = ("memory_mib", "vcpus", "uuid", "disks", "nics", "profile", "tags")
_OLD: Final = (
    "its record was written by an older hvcore and has no parameters: the saved machine is started again, and changed "
    "values take effect at stop and start"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Now:
    """The instance as its file and node define it now; ``params`` is None when they are wrong, see ``problem``."""

    instance: Instance
    layers: Layers
    params: Params | None
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """A machine to start: its parameters, its spec as plain JSON, and notes for the operator."""

    params: Params
    spec: Any
    planned: type[Any] | None
    taken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def reboot(
    context: Context,
    name: str,
    *,
    force: bool,
    deadline: Deadline,
    start_deadline: Deadline,
    only_ended: bool = False,
) -> Outcome:
    """Stop the instance, as `stop` does, and start the saved machine, all under one lock.

    Reads again the values of parameters that may change at a launch. The notes of the outcome name those that were taken
    and those that were not, and the changes that only a stop and a start apply.

    With ``only_ended``, an instance that has ended is started again, and any other is refused with `StateError`.

    With ``force``, a polite stop or reboot in progress waits no longer, and the instance is started all the same.

    Raises the errors of `stop` and `start`. Checks and verifies before it stops the instance, secures room for the start,
    and holds disks, uids, numbers, ports and links until the start has taken them over. If the start fails all the same,
    the instance is stopped and its record is kept for another reboot.
    """
    wait_s = deadline.left(at_most=context.busy_s)
    taking_over = TakingOver(context, name, force=force, patience_s=wait_s / 2)
    with context.store.lock(name, "reboot", wait_s=wait_s, while_busy=taking_over):
        settle(context, name, deadline)
        refuse_open(context, name, Op.REBOOT)
        record = _to_reboot(context, name, taking_over.record, only_ended=only_ended)
        loaded = context.driver(record.driver)
        decided, notes = _saved_machine(context, loaded, record)
        refuse_unverified(context, loaded, decided)
        kept = context.store.kept(name)
        kept.keep(record)
        host = context.host
        between = BetweenHalves(host.run_dir, name, node_wide=host.privileged)
        context = replace(context, host=replace(host, between=between))
        try:
            hold(between, record, host)
            with hurried_deadline(context.store.dir(name), deadline) as hurried:
                stopped = taking_over.noted(stop_locked(context, name, force=force, deadline=hurried))
                if hurried.hurried:  # by a user who wants it to stay stopped
                    kept.drop()
                    todo = f"hv start {record.source}" if record.source else "start it again"
                    raise OperationError(f"{name}: a stop by force came during the reboot, so it is stopped; {todo}")
            between.ports.stopped()
            kept.free_room()
            started = start_locked(context, loaded, decided, start_deadline)
        except BaseException as error:
            between.close(stopped=not os.path.lexists(context.store.dir(name) / RECORD_FILE))
            if kept.restore():
                error.add_note(f"{name}: is stopped, and its machine is kept; hv reboot {name} starts it")
            raise
        between.close(stopped=True)
        try:
            kept.drop()
        except LeftoverError as error:  # the next stop drops it
            notes = (*notes, str(error))
    started = call_after_start(loaded, decided, started)
    notes = (*notes, *stopped.notes, *started.notes)
    seconds = deadline.spent()
    return replace(
        started, op=Op.REBOOT, stopped_by=stopped.stopped_by, clean=stopped.clean, seconds=seconds, notes=notes
    )


def start_saved(context: Context, record: Record, *, paused: bool, deadline: Deadline) -> Outcome:
    """Start the machine of the record, which does not run, as the end of a migration. The caller holds the lock.

    Raises the errors of `start_locked`.
    """
    loaded = context.driver(record.driver)
    decided, notes = _saved_machine(context, loaded, record)
    decided = replace(decided, paused=paused)
    started = start_locked(context, loaded, decided, deadline, by_migration=True)
    started = call_after_start(loaded, decided, started)
    return replace(started, notes=(*notes, *started.notes))


def _to_reboot(context: Context, name: str, before: Record | None, *, only_ended: bool) -> Record:
    """The record of the instance, which runs, or was stopped by a reboot that could not start it.

    ``before`` is its record from before the end of a polite stop that this reboot has hurried.
    """
    seen = observed(context, name)
    if before is not None and seen.record is None and seen.state is State.STOPPED:
        ended = ended_record(before)
        context.store.create(name)
        context.store.save(ended)
        return ended
    if seen.record is not None and (seen.record.phase is Phase.ENDED or (only_ended and seen.state in ENDED)):
        return seen.record
    if only_ended:
        raise StateError(name=name, state=str(seen.state), operation="a restart after its end", allowed=[])
    return existing_as(name, seen, Op.REBOOT)[0]


def _saved_machine(context: Context, loaded: LoadedDriver, record: Record) -> tuple[Decided, tuple[str, ...]]:
    """The machine of the record, and notes about new values: taken, not taken, or left for a start.

    Raises `OperationError` when it needs a secret that was not saved and is not in its file, `DriverLoadError` when an
    extension is missing, and `RecordError` when the driver cannot read the saved spec.
    """
    refuse_incomplete(loaded)
    now = _now(context, loaded, record)
    _refuse_without_secrets(loaded, record, now)
    machine = _machine(loaded, record, now)
    spec = loaded.read_spec(machine.spec, machine.planned)
    refuse_secrets(loaded, machine.params, spec)
    decided = Decided(
        instance=_instance(record, now, machine.taken),
        layers=now.layers,
        params=machine.params,
        spec=spec,
        source=record.source,
        recorded=None if record.params is None else encode(machine.params.kept()),
    )
    unusable = () if now.problem is None else (f"{now.problem}; the values of its start are kept",)
    waiting = () if record.params is None else _of_a_start(loaded, record, now, machine.params)
    return decided, (*unusable, *machine.notes, *waiting)


def _now(context: Context, loaded: LoadedDriver, record: Record) -> _Now:
    instance, layers = record.instance, context.layers(record.instance)
    if record.source:
        try:
            instance = _described(loaded, record)
        except HvError as error:
            return _Now(instance=instance, layers=layers, params=None, problem=_one_line(error))
    params, found = loaded.schema.problems(instance.params, below=layers.below)
    problems = (*layers.problems, *layers.placed(found))
    if problems:
        return _Now(instance=instance, layers=layers, params=None, problem=_first(problems))
    return _Now(instance=instance, layers=layers, params=params)


def _described(loaded: LoadedDriver, record: Record) -> Instance:
    """The instance from the file that the record names. Raises `InputError`."""
    instance = reload_instance(record.source)
    if (instance.name, instance.driver) != (record.name, record.driver):
        what = f"now describes {instance.name!r} of driver {instance.driver}"
        raise ParamsError(repr(record.source), [Problem(path="name", what=what)])
    params = absolute_params(instance.params, loaded.schema.path_keys, os.path.dirname(record.source))
    return replace(instance, params=params)


def _refuse_without_secrets(loaded: LoadedDriver, record: Record, now: _Now) -> None:
    withheld = set(record.withheld)
    if record.params is None and now.params is None:  # an older record does not name secrets that the node set
        withheld |= {key for key, param in loaded.schema.params.items() if param.secret}
    lacking = sorted(key for key in withheld if now.params is None or now.params.get(key) is None)
    if lacking:
        where = f"in it, nor in {record.source!r}" if record.source else "in it"
        what = f"cannot be started again from its record, secret {', '.join(lacking)} is not {where}"
        why = f" ({now.problem})" if now.problem and record.source else ""
        raise OperationError(f"{record.name}: {what}{why}; stop it and start it from its instance file")


def _machine(loaded: LoadedDriver, record: Record, now: _Now) -> _Machine:
    if record.params is None:
        params = now.params or loaded.check(record.instance)
        return _Machine(params=params, spec=record.spec, planned=None, notes=(_OLD,))
    saved, problems = loaded.schema.restored(record.params, record.instance.params)
    if saved is None:
        note = f"driver {loaded.name} no longer accepts the values of its start ({_first(problems)})"
        params = now.params or loaded.check(record.instance)
        return _Machine(params=params, spec=record.spec, planned=None, notes=(f"{note}: its saved machine is kept",))
    if now.params is None:
        return _unchanged(loaded, record, saved)
    saved = saved.taking(now.params, [key for key, param in loaded.schema.params.items() if param.secret])
    return _with_launch_values(loaded, record, saved, now.params)


def _with_launch_values(loaded: LoadedDriver, record: Record, saved: Params, now: Params) -> _Machine:
    keys = [key for key, param in loaded.schema.params.items() if param.changes != "start" and not param.secret]
    changed = [key for key in keys if encode(now[key]) != encode(saved[key])]
    if not changed:
        return _unchanged(loaded, record, saved)
    names = ", ".join(f"params.{key}" for key in changed)
    params = saved.taking(now, keys)
    try:
        problems = loaded.hooks.gathered("check", Problem, instance=record.instance, params=params)
        if problems:
            raise ParamsError(record.name, problems)
        before, after = loaded.plan(record.instance, saved), loaded.plan(record.instance, params)
    except HvError as error:
        machine = _unchanged(loaded, record, saved)
        return replace(
            machine, notes=(f"{names}: the new values cannot be used, the saved ones are kept ({_one_line(error)})",)
        )
    spec = merged(record.spec, encode(before), encode(after))
    return _Machine(
        params=params, spec=spec, planned=type(before), taken=tuple(keys), notes=(f"{names}: the new values are used",)
    )


def _unchanged(loaded: LoadedDriver, record: Record, saved: Params) -> _Machine:
    try:
        planned = type(loaded.plan(record.instance, saved))
    except HvError:  # such as an instance that this release refuses; the class may be known without it
        planned = None
    return _Machine(params=saved, spec=record.spec, planned=planned)


def _instance(record: Record, now: _Now, taken: tuple[str, ...]) -> Instance:
    """The instance of the record, with the new values that were taken and the secrets of its file."""
    keys = {*taken, *record.withheld}
    given = {key: value for key, value in now.instance.params.items() if key in keys}
    kept = {key: value for key, value in record.instance.params.items() if key not in keys}
    return replace(record.instance, params={**kept, **given})


def _of_a_start(loaded: LoadedDriver, record: Record, now: _Now, params: Params) -> tuple[str, ...]:
    """A note that names the changes that take effect at a start, if there are any."""
    if now.params is None:
        return ()
    own = encode(record.instance), encode(now.instance)
    names = [field for field in _FIELDS if own[0][field] != own[1][field]]
    for key, param in loaded.schema.params.items():
        if param.changes == "start" and not param.secret and encode(now.params[key]) != encode(params[key]):
            layer = now.params.layer(key)
            names.append(f"params.{key}" if layer in (INSTANCE, DEFAULT) else f"params.{key} ({layer})")
    if not names:
        return ()
    return (f"{', '.join(names)}: changed since its start; a reboot keeps the old values, stop and start take the new",)


def _first(problems: tuple[Problem, ...]) -> str:
    return f"{problems[0]}, and {len(problems) - 1} more" if len(problems) > 1 else str(problems[0])


def _one_line(error: HvError) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines())
