"""Attaching a device to a running instance, and detaching one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import OperationError, ParamsError
from hvcore.model.answers import Outcome
from hvcore.model.definitions.live_changes import items_of
from hvcore.model.devices import Disk, ListedDevice, Nic
from hvcore.model.instance import Instance
from hvcore.model.record import Record
from hvcore.model.state import Op
from hvcore.operations.begin import Begun, begun
from hvcore.operations.context import Context
from hvcore.operations.devices.change import change_to, devices_in, field_of, made
from hvcore.operations.devices.new_problems import refuse_new_problems, relative
from hvcore.operations.inspection.observe import existing, observed
from hvcore.operations.lifecycle.start import refuse_incomplete
from hvcore.operations.saved_params import saved_params
from hvcore.params.values import Params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["attach", "changed_params", "detach", "with_device"]

_KEYS: Final[Mapping[type, str]] = {Disk: "disks", Nic: "nics"}
_ROW: Final = re.compile(r"(disks|nics)\[(\d+)\]")
_ITEM: Final = re.compile(r"params\.(\w+)\[(\d+)\]")


def attach(
    context: Context, name: str, device: Disk | Nic | ListedDevice, *, params: Mapping[str, Any], deadline: Deadline
) -> Outcome:
    """Attach the device; no change if the instance has exactly this one already. The outcome names the device.

    ``params`` are values of the driver's parameters for this device alone. Raises `ParamsError` and `VerifyError` before
    anything changes, and `OperationError` when the device could not be attached and that was undone.
    """
    with begun(context, name, Op.ATTACH, deadline) as begin:
        record, loaded = begin.record, begin.loaded
        refuse_incomplete(loaded)
        known = _known(loaded, record, device)
        if known is not None and not _let_go(context, begin, known, deadline):
            state = observed(context, name).state
            return Outcome(name=name, op=Op.ATTACH, changed=False, state=state, device=known)
        if known is not None:  # an earlier detach was not waited for, and now it is finished
            _detached(context, begin, known, deadline)
            record, _ = existing(context, name, Op.ATTACH)
        saved = saved_params(loaded, record)
        instance, values, field = with_device(loaded, record, device, params)
        refuse_new_problems(loaded, (record.instance, saved), (instance, values), field)
        job = context.job(record, deadline, loaded)
        with closing(job.held):
            spec, label = begin.act(job, instance, values, field)
            changed = changed_params(record, instance, field)
            change = change_to(loaded, Op.ATTACH, label, spec, instance=instance, params=changed)
            return made(context, replace(begin, record=record), change, deadline, job=job)


def with_device(
    loaded: LoadedDriver, record: Record, device: Disk | Nic | ListedDevice, params: Mapping[str, Any]
) -> tuple[Instance, Params, str]:
    """The instance with one device more, the parameters for it, and its field. Raises `ParamsError`."""
    saved = saved_params(loaded, record)
    instance, field = _with_row(record.instance, saved, device)
    if isinstance(device, ListedDevice):
        params = {**params, device.param: instance.params[device.param]}
    return instance, _with_values(loaded, record.name, saved, params), field


def detach(context: Context, name: str, device: str, *, deadline: Deadline) -> Outcome:
    """Detach the device and release what it holds, when the guest has let it go.

    Raises `InputError` for a device that the instance does not have, `OperationError` for one that has to stay, and
    `DeadlineError` when the guest does not let it go: another detach continues.
    """
    with begun(context, name, Op.DETACH, deadline) as begin:
        return _detached(context, begin, device, begin.deadline)


def _detached(context: Context, begin: Begun, device: str, deadline: Deadline) -> Outcome:
    record, loaded = begin.record, begin.loaded
    field = field_of(loaded, record, device)
    spec = loaded.able(Op.DETACH)(context.job(record, deadline, loaded), device)
    instance = _without_row(record.instance, saved_params(loaded, record), field)
    params = changed_params(record, instance, field)
    change = change_to(loaded, Op.DETACH, device, spec, instance=instance, params=params)
    return made(context, begin, change, deadline)


def _known(loaded: LoadedDriver, record: Record, device: Disk | Nic | ListedDevice) -> str | None:
    """The name under which the instance has this very device."""
    field = _same(record.instance, saved_params(loaded, record), device)
    return next((label for label, known in devices_in(loaded, record).items() if known == field), None)


def _let_go(context: Context, begin: Begun, device: str, deadline: Deadline) -> bool:
    """Whether the guest has let go a device of the record: after the deadline of a detach, such as by a reset."""
    record, loaded = begin.record, begin.loaded
    job = context.job(record, deadline, loaded)
    try:
        without = loaded.able(Op.DETACH)(job, device)
    except OperationError:  # it has to stay
        return False
    return loaded.altered(job, before=loaded.read_spec(record.spec), after=without, device=device)


def _same(instance: Instance, saved: Params, device: Disk | Nic | ListedDevice) -> str | None:
    """The field of the instance that has this very device. A NIC without a MAC address is always another one.

    So is a device in a text that lists them. A list has each of its values once.
    """
    if isinstance(device, ListedDevice):
        value: Any = saved.get(device.param)
        there = _is_list(value) and device.item in value
        return f"params.{device.param}[{value.index(device.item)}]" if there else None
    if isinstance(device, Nic) and device.mac is None:
        return None
    key = _KEYS[type(device)]
    try:
        wanted = getattr(_added(_with_rows(instance, key, ()), device), key)[0]
    except ParamsError:  # reported with the problems of the device
        return None
    return next((f"{key}[{at}]" for at, row in enumerate(getattr(instance, key)) if row == wanted), None)


def _added(instance: Instance, device: Disk | Nic) -> Instance:
    key = _KEYS[type(device)]
    rows = getattr(instance, key)
    try:
        return _with_rows(instance, key, (*rows, device))
    except ParamsError as error:
        raise ParamsError(instance.name, relative(error.problems, f"{key}[{len(rows)}]")) from error


def _with_row(instance: Instance, saved: Params, device: Disk | Nic | ListedDevice) -> tuple[Instance, str]:
    """The instance with the device as its last one of that kind, and the device's field.

    Every NIC gets its MAC address written down: one that follows from the position would change with it.
    """
    if isinstance(device, ListedDevice):
        items = items_of(saved.get(device.param))
        field = f"params.{device.param}[{len(items)}]"
        return _with_items(instance, saved, device.param, [*items, device.item]), field
    instance = instance.with_macs()
    if isinstance(device, Nic) and device.mac is None:
        device = replace(device, mac=instance.free_mac())
    key = _KEYS[type(device)]
    return _added(instance, device), f"{key}[{len(getattr(instance, key))}]"


def _without_row(instance: Instance, saved: Params, field: str) -> Instance:
    listed = _ITEM.fullmatch(field)
    if listed is not None:
        items = items_of(saved.get(listed[1]))
        return _with_items(instance, saved, listed[1], [one for at, one in enumerate(items) if at != int(listed[2])])
    found = _ROW.fullmatch(field)
    if found is None:
        return instance
    instance, key, at = instance.with_macs(), found[1], int(found[2])
    rows = getattr(instance, key)
    return _with_rows(instance, key, (*rows[:at], *rows[at + 1 :]))


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _with_items(instance: Instance, saved: Params, param: str, items: Sequence[str]) -> Instance:
    others = {key: value for key, value in instance.params.items() if key != param}
    if _is_list(saved.get(param)):
        return replace(instance, params={**others, param: list(items)})
    return replace(instance, params={**others, param: ",".join(items)} if items else others)


def changed_params(record: Record, instance: Instance, field: str) -> dict[str, Any] | None:
    """The parameters of the record, with those of the instance if the field is one of them."""
    listed = _ITEM.fullmatch(field)
    if listed is None or record.params is None:
        return record.params
    changed: dict[str, Any] = {**record.params, listed[1]: instance.params.get(listed[1])}
    return changed


def _with_rows(instance: Instance, key: str, rows: tuple[Disk | Nic, ...]) -> Instance:
    changes: dict[str, Any] = {key: rows}
    return replace(instance, **changes)


def _with_values(loaded: LoadedDriver, name: str, saved: Params, given: Mapping[str, Any]) -> Params:
    if not given:
        return saved
    return saved.taking(loaded.schema.check(dict(given), name), given)
