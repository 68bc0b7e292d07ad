"""Making those changes of a definition happen that a running instance can have: devices and media."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from hvcore.deadline import Deadline
from hvcore.errors import HvError
from hvcore.model.answers import Outcome
from hvcore.model.definitions.live_changes import live_changes, media_fields
from hvcore.model.definitions.pending import Effect
from hvcore.model.instance import Instance
from hvcore.model.record import Record
from hvcore.operations.context import Context
from hvcore.operations.definitions.changes import definition_for, differences
from hvcore.operations.devices.attach import attach, detach
from hvcore.operations.devices.change import devices_in
from hvcore.operations.devices.media import change_medium

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["apply"]

_Step = Callable[[], Outcome]


def apply(context: Context, name: str, defined: Instance | None, *, deadline: Deadline) -> tuple[Outcome, ...]:
    """Detach what only the running instance has, attach what only the definition has, and change media.

    Each step is one operation. Raises the error of the first step that fails, with a note of what was done
    before it; another call continues.
    """
    record, loaded, defined = definition_for(context, name, defined)
    pending = {one.field: one for one in differences(context, record, loaded, defined) if one.effect is Effect.NOW}
    done: list[Outcome] = []
    for step in _steps(context, loaded, record, defined, deadline):
        try:
            done.append(step())
        except HvError as error:
            for outcome in done:
                error.add_note(f"{name}: {outcome.op} of {outcome.device} was done before")
            raise
    params = media_fields(devices_in(loaded, record))
    for key, drive in params.items():
        change = pending.get(f"params.{key}")
        if change is not None:
            done.append(change_medium(context, name, drive, change.defined, deadline=deadline))
    return tuple(done)


def _steps(
    context: Context, loaded: LoadedDriver, record: Record, defined: Instance, deadline: Deadline
) -> Iterator[_Step]:
    for one in live_changes(record.instance, defined, devices_in(loaded, record)):
        device, added = one.device, one.added
        if device is not None:
            yield partial(detach, context, record.name, device, deadline=deadline)
        elif added is not None:
            yield partial(attach, context, record.name, added, params={}, deadline=deadline)
