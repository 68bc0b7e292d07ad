"""Changing the medium in a drive of a running instance."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hvcore.deadline import Deadline
from hvcore.errors import OperationError
from hvcore.model.answers import Outcome
from hvcore.model.codec import encode
from hvcore.model.state import Op
from hvcore.operations.begin import begun
from hvcore.operations.context import Context
from hvcore.operations.devices.change import change_to, field_of, made
from hvcore.operations.inspection.observe import observed

__all__ = ["change_medium"]

_PARAM: Final = "params."


def change_medium(context: Context, name: str, device: str, path: str | None, *, deadline: Deadline) -> Outcome:
    """Put the image at that absolute path or URL into the drive, in place of the one in it; None empties the drive.

    Raises `InputError` for a device that the instance does not have, `VerifyError` for an image that cannot be used, and
    `OperationError` when the guest keeps the drive locked: it still has its medium then.
    """
    op = Op.EJECT if path is None else Op.INSERT
    with begun(context, name, op, deadline) as begin:
        record, loaded = begin.record, begin.loaded
        field = field_of(loaded, record, device)
        if not field.startswith(_PARAM):
            raise OperationError(f"{name}: {device} has no medium to change; give a CD-ROM or floppy drive")
        spec = begin.act(context.job(record, deadline, loaded), device, path)
        if encode(spec) == record.spec:
            state = observed(context, name).state
            return Outcome(name=name, op=op, changed=False, state=state, device=device)
        key = field.removeprefix(_PARAM)
        given = {one: value for one, value in record.instance.params.items() if one != key}
        instance = replace(record.instance, params=given if path is None else {**given, key: path})
        params = None if record.params is None else {**record.params, key: path}
        change = change_to(loaded, op, device, spec, instance=instance, params=params)
        return made(context, begin, change, deadline)
