"""Changing settings of a device of a running instance: a cable, a bridge, limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import InputError, OperationError
from hvcore.model.answers import Outcome
from hvcore.model.definitions.changed_row import changed_keys, changed_row
from hvcore.model.devices import Disk, Nic
from hvcore.model.instance import Instance
from hvcore.model.record import Record
from hvcore.model.state import Op
from hvcore.operations.begin import begun
from hvcore.operations.context import Context
from hvcore.operations.devices.change import change_to, field_of, made
from hvcore.operations.devices.new_problems import refuse_new_problems
from hvcore.operations.inspection.observe import observed
from hvcore.operations.saved_params import saved_params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["modifiable", "modify"]

_ROW: Final = re.compile(r"(disks|nics)\[(\d+)\]")


def modify(context: Context, name: str, device: str, values: Mapping[str, Any], *, deadline: Deadline) -> Outcome:
    """Give the device these settings, by their keys in an instance file; no change if it has them.

    Raises `InputError` for a device that the instance does not have, `ParamsError` and `VerifyError` for wrong values, and
    `OperationError` for keys that cannot change while the instance runs, or if the change failed and was undone.
    """
    if not values:
        raise InputError(f"{name}: {device}: nothing to change, got no values; give a key and a value")
    with begun(context, name, Op.MODIFY, deadline) as begin:
        record, loaded = begin.record, begin.loaded
        field = field_of(loaded, record, device)
        before = record.instance.with_macs()
        key, at = _place(name, device, field)
        row: Disk | Nic = getattr(before, key)[at]
        wanted = changed_row(name, row, values)
        changed = changed_keys(row, wanted)
        if not changed:
            state = observed(context, name).state
            return Outcome(name=name, op=Op.MODIFY, changed=False, state=state, device=device)
        _refuse_fixed(loaded, record, device, changed)
        instance = _with_row(before, key, at, wanted)
        saved = saved_params(loaded, record)
        refuse_new_problems(loaded, (before, saved), (instance, saved), field)
        spec = begin.act(context.job(record, deadline, loaded), instance, device)
        change = change_to(loaded, Op.MODIFY, device, spec, instance=instance, params=record.params)
        return made(context, begin, change, deadline)


def modifiable(context: Context, name: str, device: str) -> tuple[str, ...]:
    """The keys of the device that `modify` can change now. None for a driver that cannot modify. Raises as `modify` does."""
    record = observed(context, name).record
    if record is None:
        return ()
    loaded = context.driver(record.driver)
    field_of(loaded, record, device)
    return loaded.modifiable(loaded.read_spec(record.spec), device)


def _place(name: str, device: str, field: str) -> tuple[str, int]:
    found = _ROW.fullmatch(field)
    if found is None:
        what = f"{name}: {device} has no settings that can change while it runs"
        raise OperationError(f"{what}; use a disk or a network interface, or 'hv insert' for the medium of a drive")
    return found[1], int(found[2])


def _refuse_fixed(loaded: LoadedDriver, record: Record, device: str, changed: tuple[str, ...]) -> None:
    can = loaded.modifiable(loaded.read_spec(record.spec), device)
    fixed = [key for key in changed if key not in can]
    if fixed:
        which = f"{', '.join(can)} can" if can else "nothing of it can"
        what = f"{record.name}: {device}: {', '.join(fixed)} cannot change while it runs ({which})"
        raise OperationError(f"{what}; change the file or definition, which takes effect at a stop and a start")


def _with_row(instance: Instance, key: str, at: int, row: Disk | Nic) -> Instance:
    rows = getattr(instance, key)
    changes: dict[str, Any] = {key: (*rows[:at], row, *rows[at + 1 :])}
    return replace(instance, **changes)
