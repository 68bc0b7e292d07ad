"""The state of instances. Changes nothing: no lock, no recovery."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from hvcore.config import strict
from hvcore.errors import HvError, NotFoundError, RecordError, StateError
from hvcore.host.processes.process import alive, boot_id, figures
from hvcore.model.answers import InstanceInfo, Observation
from hvcore.model.record import STATUS, Phase, Record
from hvcore.model.state import Already, Move, Op, State, transition
from hvcore.operations.context import Context

__all__ = ["Observed", "existing", "info", "infos", "observed", "observer_of", "verdict_on"]


_ENDED: Final = (State.SHUTDOWN, State.CRASHED)


class Observed(NamedTuple):
    """An instance as the node has it: its record, None without a readable one, and what is observed."""

    record: Record | None
    observation: Observation

    @property
    def state(self) -> State:
        """The state that the next operation starts from."""
        return self.observation.state


def observed(context: Context, name: str) -> Observed:
    """The instance as it is now. Never raises for one that is dead, damaged or absent."""
    try:
        record = context.store.load(name)
    except RecordError as error:
        return Observed(record=None, observation=Observation(state=State.UNKNOWN, reason=str(error)))
    if record is None and not context.store.locked(name):  # else a reboot is at work, between its halves
        record = context.store.kept(name).read()
    if record is None:
        return Observed(record=None, observation=_without_record(context, name))
    found = _observe(context, record)
    if found.state in _ENDED and found.pid is None and record.boot_id == boot_id():
        found = _unless_unseen(context, name, found)
    return Observed(record=record, observation=found)


def _unless_unseen(context: Context, name: str, found: Observation) -> Observation:
    """What was observed, or unknown if the instance runs where its processes cannot be seen from here."""
    from hvcore.host.processes.launched import runs_unseen  # noqa: PLC0415 - json, which most lists do not need

    if not runs_unseen(context.store.dir(name)):
        return found
    reason = f"{name}: still runs, in a PID namespace that cannot be seen from here; run hv where it was started"
    return Observation(state=State.UNKNOWN, reason=reason)


def _without_record(context: Context, name: str) -> Observation:
    from hvcore.operations.unrecorded import remains  # noqa: PLC0415 - 3.7 ms (control groups), which a list does not need

    left = remains(context, name)
    return Observation(state=State.STOPPED if left is None else State.UNKNOWN, reason=left)


def _observe(context: Context, record: Record) -> Observation:
    if record.boot_id != boot_id():
        return Observation(state=State.CRASHED, reason="the node was restarted")
    if record.phase is not Phase.RUNNING:
        return _half_done(context, record)
    # A caller that restricts drivers, or wants their faults, needs the driver itself.
    if record.observer and not strict() and "HVCORE_DRIVERS" not in os.environ:
        found = _without_driver(context, record)
        if found is not None:
            return found
    try:
        return context.driver(record.driver).observe(context.live(record))
    except HvError as error:
        return Observation(state=State.UNKNOWN, reason=str(error))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one broken driver must not hide the instances of the others
        what = f"driver {record.driver}: raised {type(error).__name__}: {error}; report this to its authors"
        return Observation(state=State.UNKNOWN, reason=what)


def _without_driver(context: Context, record: Record) -> Observation | None:
    """What the driver's observer function alone reports: importing a whole driver takes longer than everything else.

    None when the observer fails: then the driver is loaded, and reports why.
    """
    try:
        found = _observer(record.observer)(context.live(record))
    except (Exception, SystemExit):  # noqa: BLE001 - another release of the driver may be installed now
        return None
    return found if isinstance(found, Observation) else None


def observer_of(driver: object) -> str:
    """``module:function`` of its ``observe`` when that is a function of a module, as a static method; else empty."""
    found = inspect.getattr_static(driver, "observe")
    function = found.__func__ if isinstance(found, staticmethod) else None
    if not inspect.isfunction(function):
        return ""
    home, name = sys.modules.get(function.__module__), function.__qualname__
    return f"{function.__module__}:{name}" if getattr(home, name, None) is function else ""


@functools.cache
def _observer(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _half_done(context: Context, record: Record) -> Observation:
    if record.phase is Phase.ENDED:
        reason = "its reboot has stopped it and did not start it again; hv reboot tries again"
        return Observation(state=State.CRASHED, reason=reason)
    state = State.STARTING if record.phase is Phase.STARTING else State.STOPPING
    process = record.process
    pid = process.pid if process is not None and alive(process) else None
    if context.store.locked(record.name):
        return Observation(state=state, pid=pid)
    if process is not None and pid is not None and figures(process) is None:
        reason = f"killed, but pid {pid} hangs in the kernel and may still write; hv stop tries again"
        return Observation(state=state, pid=pid, reason=reason)
    return Observation(state=state, pid=pid, reason="interrupted; hv recover finishes or undoes it")


def verdict_on(name: str, seen: Observed, op: Op) -> Move | Already:
    """What ``op`` does in the state that was seen. Raises `StateError`, with the reason for the state as a note."""
    try:
        return transition(name, seen.state, op)
    except StateError as error:
        if seen.observation.reason is not None:
            error.add_note(seen.observation.reason)
        raise


def existing(context: Context, name: str, op: Op) -> tuple[Record, Move | Already]:
    """The record of an instance that must exist, and what ``op`` does. Raises `NotFoundError`, `StateError`."""
    seen = observed(context, name)
    if seen.state is State.STOPPED:
        raise NotFoundError(name)
    verdict = verdict_on(name, seen, op)
    if seen.record is None:
        raise NotFoundError(name)
    return seen.record, verdict


def info(context: Context, name: str) -> InstanceInfo:
    """One instance. Raises `NotFoundError` when it has no record on this node."""
    seen = observed(context, name)
    if seen.state is State.STOPPED:
        raise NotFoundError(name)
    return _info(context, name, seen)


def infos(context: Context) -> list[InstanceInfo]:
    """Every instance that has a record on this node, sorted by name."""
    found = ((name, observed(context, name)) for name in context.store.names())
    return [_info(context, name, seen) for name, seen in found if seen.state is not State.STOPPED]


def _info(context: Context, name: str, seen: Observed) -> InstanceInfo:
    record = seen.record
    if record is None:
        return InstanceInfo.of(seen.observation, name=name, driver="unknown")
    instance = record.instance
    ended = seen.state in (State.SHUTDOWN, State.CRASHED) and record.boot_id == boot_id()
    return InstanceInfo.of(
        seen.observation,
        name=name,
        driver=record.driver,
        uuid=instance.uuid,
        source=record.source or None,
        started_at=record.started_at or None,
        ended_at=_ended_at(context, name) if ended else None,
        disks=instance.disks,
        nics=tuple(replace(nic, mac=instance.mac(index)) for index, nic in enumerate(instance.nics)),
    )


def _ended_at(context: Context, name: str) -> float | None:
    """When bubblewrap wrote the exit status of the instance's process: its last change of that file."""
    try:
        return os.stat(context.store.dir(name) / STATUS).st_mtime
    except OSError:
        return None
