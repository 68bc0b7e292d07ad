"""Making those changes of a definition happen that a running instance can have, each by the operation that exists for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from hvcore.deadline import Deadline
from hvcore.errors import HvError
from hvcore.frozen import dataclass
from hvcore.model.answers import Outcome
from hvcore.model.definitions.live_changes import LiveChange, listed_changes, live_changes, media_fields
from hvcore.model.definitions.pending import Effect
from hvcore.model.instance import Instance
from hvcore.model.record import Record
from hvcore.model.state import Op
from hvcore.model.tuned import Resized
from hvcore.operations.context import Context
from hvcore.operations.definitions.changes import SIZES, definition_for, differences, keys_of
from hvcore.operations.devices.attach import attach, detach
from hvcore.operations.devices.change import devices_in
from hvcore.operations.devices.media import change_medium
from hvcore.operations.devices.modify import modify
from hvcore.operations.tuning.resize import resize_memory, resize_vcpus

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["Applied", "apply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """One change that `Node.apply` tried: its ``outcome``, or the ``error``. ``field`` is as in `PendingChange`.

    ``device`` is the name of the device; None for a new device that could not be attached, and for a size.
    """

    name: str
    field: str
    op: Op
    device: str | None = None
    outcome: Outcome | None = None
    error: HvError | None = None

    @property
    def done(self) -> bool:
        """Whether the instance is now as defined there. A size may not have been reached."""
        return self.outcome is not None and (not isinstance(self.outcome, Resized) or self.outcome.reached)

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types: the keys of the outcome, or those of the error."""
        found = self.outcome or self.error
        return {"field": self.field, "done": self.done, **({} if found is None else found.to_json())}


def apply(context: Context, name: str, defined: Instance | None, *, deadline_s: float) -> tuple[Applied, ...]:
    """Detach what only the running instance has, change devices and media, attach what is new, then change sizes.

    What is given back first may be needed by what comes. A change that fails does not stop the others, and each has its own
    deadline. Raises as `changes` does.
    """
    record, loaded, defined = definition_for(context, name, defined)
    return tuple(_tried(name, step, deadline_s) for step in _steps(context, loaded, record, defined))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planned:
    field: str
    op: Op
    act: Callable[..., Outcome]  # takes a deadline
    device: str | None = None


def _tried(name: str, step: _Planned, deadline_s: float) -> Applied:
    about: dict[str, Any] = {"name": name, "field": step.field, "op": step.op}
    try:
        outcome = step.act(deadline=Deadline(deadline_s))
    except HvError as error:
        return Applied(**about, device=step.device, error=error)
    return Applied(**about, device=outcome.device, outcome=outcome)


def _steps(context: Context, loaded: LoadedDriver, record: Record, defined: Instance) -> Iterator[_Planned]:
    name, devices = record.name, devices_in(loaded, record)
    now = {one.field: one for one in differences(context, record, loaded, defined) if one.effect is Effect.NOW}
    live = list(live_changes(record.instance, defined, devices, keys_of(loaded, record)))
    for field, one in now.items():
        if field.startswith("params."):
            live += listed_changes(field.removeprefix("params."), one.running, one.defined, devices)
    yield from (_on_device(context, name, one) for one in live if one.added is None)
    for key, drive in media_fields(devices).items():
        change = now.get(f"params.{key}")
        if change is not None:
            op = Op.EJECT if change.defined is None else Op.INSERT
            act = partial(change_medium, context, name, drive, change.defined)
            yield _Planned(field=change.field, op=op, device=drive, act=act)
    yield from (_on_device(context, name, one) for one in live if one.added is not None)
    for op, field in SIZES.items():
        if field in now:
            resize = resize_memory if op is Op.MEMORY else resize_vcpus
            yield _Planned(field=field, op=op, act=partial(resize, context, name, now[field].defined))


def _on_device(context: Context, name: str, change: LiveChange) -> _Planned:
    device = change.device or ""
    if change.added is not None:
        return _Planned(field=change.field, op=Op.ATTACH, act=partial(attach, context, name, change.added, params={}))
    if change.values is not None:
        act = partial(modify, context, name, device, change.values)
        return _Planned(field=change.field, op=Op.MODIFY, device=device, act=act)
    return _Planned(field=change.field, op=Op.DETACH, device=device, act=partial(detach, context, name, device))
