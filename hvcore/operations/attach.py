"""Attaching a device to a running instance, and detaching one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from hvcore.deadline import Deadline
from hvcore.errors import ParamsError, Problem
from hvcore.model.answers import Outcome
from hvcore.model.codec import encode
from hvcore.model.devices import Disk, Nic
from hvcore.model.instance import Instance
from hvcore.model.nic import nic_problems
from hvcore.model.record import Change
from hvcore.model.state import Op
from hvcore.operations.change_device import devices_in, made, no_device
from hvcore.operations.context import Context
from hvcore.operations.observe import existing, observed
from hvcore.operations.recover import settle
from hvcore.operations.saved_params import saved_params
from hvcore.operations.start import refuse_incomplete
from hvcore.params.values import Params

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["attach", "detach"]

_KEYS: Final[Mapping[type, str]] = {Disk: "disks", Nic: "nics"}
_ROW: Final = re.compile(r"(disks|nics)\[(\d+)\]")


def attach(
    context: Context, name: str, device: Disk | Nic, *, params: Mapping[str, Any], deadline: Deadline
) -> Outcome:
    """Attach the device; no change if the instance has exactly this one already. The outcome names the device.

    ``params`` are values of the driver's parameters for this device alone. Raises `ParamsError` and `VerifyError` before
    anything changes, and `OperationError` when the device could not be attached and that was undone.
    """
    with context.store.lock(name, "attach", wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, name, deadline)
        record, verdict = existing(context, name, Op.ATTACH)
        loaded = context.driver(record.driver)
        decide = loaded.able(Op.ATTACH)
        refuse_incomplete(loaded)
        devices = devices_in(loaded, record)
        there = _same(record.instance, device)
        if there is not None and there in devices.values():
            known = next(label for label, field in devices.items() if field == there)
            state = observed(context, name).state
            return Outcome(name=name, op=Op.ATTACH, changed=False, state=state, device=known)
        saved = saved_params(loaded, record)
        instance, field = _with_row(record.instance, device)
        values = _with_values(loaded, name, saved, params)
        _refuse_new_problems(loaded, (record.instance, saved), (instance, values), field)
        job = context.job(record, deadline, loaded)
        spec, label = decide(job, instance, values, field)
        change = Change(
            op=str(Op.ATTACH),
            device=label,
            instance=instance,
            spec=encode(spec),
            params=record.params,
            devices=loaded.device_names(spec),
        )
        return made(context, loaded, record, change, verdict, deadline)


def detach(context: Context, name: str, device: str, *, deadline: Deadline) -> Outcome:
    """Detach the device and release what it holds, when the guest has let it go.

    Raises `InputError` for a device that the instance does not have, `OperationError` for one that has to stay, and
    `DeadlineError` when the guest does not let it go: another detach continues.
    """
    with context.store.lock(name, "detach", wait_s=deadline.left(at_most=context.busy_s)):
        settle(context, name, deadline)
        record, verdict = existing(context, name, Op.DETACH)
        loaded = context.driver(record.driver)
        decide = loaded.able(Op.DETACH)
        devices = devices_in(loaded, record)
        if device not in devices:
            raise no_device(name, device, devices)
        spec = decide(context.job(record, deadline, loaded), device)
        change = Change(
            op=str(Op.DETACH),
            device=device,
            instance=_without_row(record.instance, devices[device]),
            spec=encode(spec),
            params=record.params,
            devices=loaded.device_names(spec),
        )
        return made(context, loaded, record, change, verdict, deadline)


def _same(instance: Instance, device: Disk | Nic) -> str | None:
    """The field of the instance that has this very device. A NIC without a MAC address is always another one."""
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
        raise ParamsError(instance.name, _relative(error.problems, f"{key}[{len(rows)}]")) from error


def _with_row(instance: Instance, device: Disk | Nic) -> tuple[Instance, str]:
    """The instance with the device as its last one of that kind, and the device's field.

    Every NIC gets its MAC address written down: one that follows from the position would change with it.
    """
    instance = instance.with_macs()
    if isinstance(device, Nic) and device.mac is None:
        device = replace(device, mac=instance.free_mac())
    key = _KEYS[type(device)]
    return _added(instance, device), f"{key}[{len(getattr(instance, key))}]"


def _without_row(instance: Instance, field: str) -> Instance:
    found = _ROW.fullmatch(field)
    if found is None:
        return instance
    instance, key, at = instance.with_macs(), found[1], int(found[2])
    rows = getattr(instance, key)
    return _with_rows(instance, key, (*rows[:at], *rows[at + 1 :]))


def _with_rows(instance: Instance, key: str, rows: tuple[Disk | Nic, ...]) -> Instance:
    changes: dict[str, Any] = {key: rows}
    return replace(instance, **changes)


def _with_values(loaded: LoadedDriver, name: str, saved: Params, given: Mapping[str, Any]) -> Params:
    if not given:
        return saved
    return saved.taking(loaded.schema.check(dict(given), name), given)


def _refuse_new_problems(
    loaded: LoadedDriver, before: tuple[Instance, Params], after: tuple[Instance, Params], field: str
) -> None:
    """Raise `ParamsError` with the problems that the instance has only with the device. An upgrade may have added others."""
    old, new = _problems(loaded, *before), _problems(loaded, *after)
    found = [problem for problem in new if problem not in old]
    if found:
        raise ParamsError(after[0].name, _relative(found, field))


def _problems(loaded: LoadedDriver, instance: Instance, params: Params) -> list[Problem]:
    macs = [instance.mac(at) for at in range(len(instance.nics))]
    found = nic_problems(instance.nics, macs)
    return [*found, *loaded.hooks.gathered("check", Problem, instance=instance, params=params)]


def _relative(problems: Iterable[Problem], field: str) -> list[Problem]:
    """The problems with the key of the device in place of its field: ``path`` for ``disks[2].path``."""
    return [replace(problem, path=problem.path.removeprefix(f"{field}.")) for problem in problems]
