"""What differs between an instance that runs and its definition, and when each difference takes effect."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

from hvcore.config import absolute_params, reload_instance
from hvcore.errors import InputError, NotFoundError, ParamsError, RecordError
from hvcore.model.codec import encode
from hvcore.model.definitions.live_changes import in_order, listed_changes, live_changes, media_fields
from hvcore.model.definitions.pending import Effect, PendingChange
from hvcore.model.instance import Instance
from hvcore.model.record import Record
from hvcore.model.state import Op, State
from hvcore.operations.context import Context
from hvcore.operations.devices.change import devices_in
from hvcore.operations.inspection.observe import observed
from hvcore.params.values import INSTANCE

if TYPE_CHECKING:
    from hvcore.plugins.loaded_driver import LoadedDriver  # imports pluggy and metadata

__all__ = ["SIZES", "changes", "definition_for", "differences", "keys_of"]

_FIELDS: Final = ("driver", "memory_mib", "vcpus", "uuid", "profile", "tags")
_DEVICES: Final = ("disks", "nics")
SIZES: Final = {Op.MEMORY: "memory_mib", Op.VCPUS: "vcpus"}
"""The operation that changes a field of a running instance."""
_EFFECTS: Final = {"start": Effect.START, "launch": Effect.REBOOT, "live": Effect.REBOOT}


def changes(context: Context, name: str, defined: Instance | None) -> tuple[PendingChange, ...]:
    """The differences, in the order of an instance file. Without ``defined``, the file in the record counts.

    Secrets are not compared: the record does not have them. Raises `NotFoundError`, and `InputError` if the file is
    missing or wrong.
    """
    return differences(context, *definition_for(context, name, defined))


def differences(context: Context, record: Record, loaded: LoadedDriver, defined: Instance) -> tuple[PendingChange, ...]:
    """Those between the instance of the record and the defined one, as `changes` has them."""
    devices, running = devices_in(loaded, record), record.instance
    live = live_changes(running, defined, devices, keys_of(loaded, record))
    whole = {key for key in _DEVICES if in_order(running, defined, key, live)}
    gone = {one.field for one in live if one.added is None and one.values is None}
    new = {one.field for one in live if one.added is not None}
    modified = {one.field for one in live if one.values is not None and devices.get(one.device or "") == one.field}
    rows = {key: (len(getattr(running, key)), len(getattr(defined, key))) for key in _DEVICES}

    def effect(field: str) -> Effect:
        """When a change of a row takes effect: now, if no device has to change that cannot, and none its position."""
        key, _, at = field.rstrip("]").partition("[")
        before, after = (int(at) < count for count in rows[key])
        if key in whole or field in modified:
            return Effect.NOW
        return Effect.NOW if (not before or field in gone) and (not after or field in new) else Effect.START

    spec, media = _spec(loaded, record), media_fields(devices)
    sizes = {} if spec is None else loaded.sizes(spec)
    listed = () if spec is None else loaded.listed(spec)

    def is_live(change: PendingChange) -> bool:
        """Whether a drive, a listed device, or the memory or the processors can change so."""
        param = change.field.removeprefix("params.")
        if param == change.field:
            return change.field in sizes and change.defined in sizes[change.field]
        if param in listed:
            return bool(listed_changes(param, change.running, change.defined, devices))
        return param in media

    return tuple(
        replace(one, effect=Effect.NOW) if is_live(one) else one
        for one in (
            *_of_instance(running.with_macs(), defined.with_macs(), effect),
            *_of_params(context, loaded, record, defined),
        )
    )


def keys_of(loaded: LoadedDriver, record: Record) -> Callable[[str], Collection[str]]:
    """A function that gives the keys of a device that can change while the instance runs."""
    spec = _spec(loaded, record)
    return lambda device: () if spec is None else loaded.modifiable(spec, device)


def _spec(loaded: LoadedDriver, record: Record) -> Any:
    """The spec; None if an extension of its start is missing: then no operation can change the instance."""
    try:
        return loaded.read_spec(record.spec)
    except RecordError:
        return None


def definition_for(context: Context, name: str, defined: Instance | None) -> tuple[Record, LoadedDriver, Instance]:
    """The record of the running instance, its driver, and what defines it: ``defined``, or else the file in the record."""
    seen = observed(context, name)
    record = seen.record
    if record is None and seen.state is not State.STOPPED:
        raise RecordError(seen.observation.reason or f"{name}: its record cannot be read")
    if record is None:
        raise NotFoundError(name, hint="it does not run, so a start takes its definition as it is")
    loaded = context.driver(record.driver)
    defined = _from_file(loaded, record) if defined is None else defined
    if defined.name != name:
        raise InputError(f"{name}: the file defines {defined.name!r}, another instance; give the file of {name}")
    return record, loaded, defined


def _from_file(loaded: LoadedDriver, record: Record) -> Instance:
    if not record.source:
        what = f"{record.name}: has no definition, and was not started from a file"
        raise InputError(f"{what}; give its instance file, or define it")
    found = reload_instance(record.source)
    directory = record.source.rpartition("/")[0]
    return replace(found, params=absolute_params(found.params, loaded.schema.path_keys, directory))


def _of_instance(running: Instance, defined: Instance, effect: Callable[[str], Effect]) -> Iterator[PendingChange]:
    own, other = encode(running), encode(defined)
    for field in _FIELDS:
        if own[field] != other[field]:
            yield _change(field, own[field], other[field], Effect.START)
    for field in _DEVICES:
        for index, (before, after) in enumerate(zip_longest(own[field], other[field])):
            if before != after:
                place = f"{field}[{index}]"
                yield _change(place, before, after, effect(place))


def _of_params(context: Context, loaded: LoadedDriver, record: Record, defined: Instance) -> Iterator[PendingChange]:
    if defined.driver != record.driver or record.params is None:  # an older record does not have them
        return
    layers = context.layers(defined)
    now, found = loaded.schema.problems(defined.params, below=layers.below)
    if now is None or layers.problems:
        raise ParamsError(defined.name, (*layers.problems, *layers.placed(found)))
    saved = loaded.schema.restored(record.params, record.instance.params)[0]
    for key, param in loaded.schema.params.items():
        before = record.params.get(key) if saved is None else encode(saved[key])
        after = encode(now[key])
        if not param.secret and before != after:
            yield _change(f"params.{key}", before, after, _EFFECTS[param.changes], now.layer(key))


def _change(field: str, running: Any, defined: Any, effect: Effect, layer: str = INSTANCE) -> PendingChange:
    return PendingChange(field=field, running=running, defined=defined, effect=effect, layer=layer)
