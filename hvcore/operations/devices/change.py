"""Changing one device of a running instance: written down first, then made; finished or undone after a failure or a crash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import HvError, InputError, NodeError
from hvcore.model.answers import Outcome
from hvcore.model.codec import encode
from hvcore.model.instance import Instance
from hvcore.model.record import Change, Phase, Record
from hvcore.model.state import Op
from hvcore.operations.begin import Begun
from hvcore.operations.context import Context
from hvcore.operations.recovery.device_change import save, settle_change, sides
from hvcore.operations.saved_params import saved_params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata
    from hvcore.state.job import Job

__all__ = ["change_to", "devices_in", "field_of", "hooked", "made"]

_SETTLE_S: Final = 10.0


def change_to(
    loaded: LoadedDriver, op: Op, device: str, spec: Any, *, instance: Instance, params: dict[str, Any] | None
) -> Change:
    """The change of that device to this spec, for the record. The instance and the parameters are as after it."""
    devices = loaded.device_names(spec)
    return Change(op=str(op), device=device, instance=instance, spec=encode(spec), params=params, devices=devices)


def made(context: Context, begin: Begun, change: Change, deadline: Deadline, *, job: Job | None = None) -> Outcome:
    """The outcome of the change, with the hooks around it. ``job`` is the operation that has decided it, if it holds anything."""
    loaded, carrying = begin.loaded, job or context.job(begin.record, deadline, begin.loaded)

    def act() -> tuple[str, ...]:
        return _carried_out(context, loaded, carrying, change)

    return hooked(begin, Op(change.op), change.device, act, after=change.instance, deadline=deadline)


def hooked(
    begin: Begun, op: Op, device: str, act: Callable[[], tuple[str, ...]], *, after: Instance, deadline: Deadline
) -> Outcome:
    """The outcome of ``act``, which returns notes, with the hooks around it. ``after`` is the instance of afterwards."""
    record, loaded = begin.record, begin.loaded
    about: dict[str, Any] = {"params": saved_params(loaded, record), "device": device}
    name, more = (str(op), {}) if op in (Op.ATTACH, Op.DETACH) else ("change", {"op": op})
    list(loaded.hooks.each(f"before_{name}", instance=record.instance, **about, **more))
    notes, seconds = act(), deadline.spent()
    outcome = Outcome(
        name=record.name, op=op, changed=True, state=begin.state, seconds=seconds, notes=notes, device=device
    )
    more_notes = loaded.hooks.notes(f"after_{name}", instance=after, outcome=outcome, **about)
    return replace(outcome, notes=(*notes, *more_notes))


def devices_in(loaded: LoadedDriver, record: Record) -> Mapping[str, str]:
    """The names of the devices; from the spec for a record of an older version, which has none."""
    return record.devices or loaded.device_names(loaded.read_spec(record.spec))


def field_of(loaded: LoadedDriver, record: Record, device: str) -> str:
    """The field of the device in the instance, such as ``disks[1]``. Raises `InputError` for a name that no device has.

    disk0 is not meant by disk1, so all are listed and none is suggested.
    """
    devices = devices_in(loaded, record)
    if device not in devices:
        there = ", ".join(sorted(devices)) or "none that can be changed while it runs"
        raise InputError(f"{record.name}: has no device {device!r:.80}; it has {there}")
    return devices[device]


def _carried_out(context: Context, loaded: LoadedDriver, job: Job, change: Change) -> tuple[str, ...]:
    """Make the change, and save it; the driver's remarks.

    After a failure the driver finds out which side the guest is on, and the change is finished or undone. If that fails
    too, the record keeps the change, for recovery. Raises the error of the driver, unless the change was made all the same.
    """
    try:
        job.update(phase=Phase.CHANGING, change=change)
        before, after = sides(loaded, job, change)
        loaded.alter(job, before=before, after=after, device=change.device)
        save(job, change)
    except BaseException as error:
        job.held.close()
        if job.record.change is None:  # not begun
            raise
        if not _settled_after(context, loaded, job, error):
            if isinstance(error, OSError) and not isinstance(error, HvError):
                what = f"{job.name}: cannot {change.op} {change.device}, got {error.strerror or error}"
                raise NodeError(f"{what}; free some space, or repair {context.host.run_dir}") from error
            raise
        return (*job.remarks, f"it was finished after an error: {error}")
    finally:
        job.held.close()
    return tuple(dict.fromkeys(job.remarks))


def _settled_after(context: Context, loaded: LoadedDriver, failed: Job, error: BaseException) -> bool:
    """Whether the change was made in spite of that error. If it was not, it is undone, as far as that works."""
    job = context.job(failed.record, Deadline(_SETTLE_S), loaded)
    try:
        what, _ = settle_change(loaded, job)
    except HvError as left:
        error.add_note(f"{job.name}: the change is neither finished nor undone ({left}); hv recover does that")
        return False
    return what == "finished" and isinstance(error, HvError | OSError)
