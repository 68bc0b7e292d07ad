"""What of the differences between a running instance and its definition can change while it runs. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.definitions.changed_row import changed_keys
from hvcore.model.devices import Disk, ListedDevice, Nic
from hvcore.model.instance import Instance

__all__ = ["LiveChange", "in_order", "items_of", "listed_changes", "live_changes", "media_fields"]

_ITEM: Final = re.compile(r"params\.(\w+)\[(\d+)\]")
_MEDIUM: Final = re.compile(r"params\.(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    """A device to detach, by its name and its field of the running instance; or one to attach, by its field of the definition.

    With ``values``, a device of both sides: its name, its field of the definition, and the keys that differ.
    """

    field: str
    device: str | None = None
    added: Disk | Nic | ListedDevice | None = None
    values: Mapping[str, Any] | None = None


def live_changes(
    running: Instance,
    defined: Instance,
    devices: Mapping[str, str],
    modifiable: Callable[[str], Collection[str]] = lambda _: (),
) -> tuple[LiveChange, ...]:
    """What to detach, then what to modify, then what to attach. A disk is known by its path, a NIC by its MAC address.

    ``devices`` are the names of the running instance's devices, with their fields; ``modifiable`` gives the keys of one that
    can change. A device that differs in any other key is not among the changes.
    """
    names = {field: name for name, field in devices.items()}
    running, defined = running.with_macs(), defined.with_macs()
    gone: list[LiveChange] = []
    other: list[LiveChange] = []
    new: list[LiveChange] = []
    for key in ("disks", "nics"):
        before = {_identity(row): (f"{key}[{at}]", row) for at, row in enumerate(getattr(running, key))}
        after = {_identity(row): (f"{key}[{at}]", row) for at, row in enumerate(getattr(defined, key))}
        gone += [
            LiveChange(field=field, device=names[field])
            for known, (field, _) in before.items()
            if known not in after and field in names
        ]
        new += [LiveChange(field=field, added=row) for known, (field, row) in after.items() if known not in before]
        for known, (field, row) in after.items():
            was, old = before.get(known, ("", row))
            keys = changed_keys(old, row)
            if keys and was in names and set(keys) <= set(modifiable(names[was])):
                values = {one: getattr(row, one) for one in keys}
                other.append(LiveChange(field=field, device=names[was], values=values))
    return (*gone, *other, *new) if devices else ()


def in_order(running: Instance, defined: Instance, key: str, changes: Sequence[LiveChange]) -> bool:
    """Whether these changes of the rows ``key`` lead to exactly the rows of the definition: new ones come last."""
    running, defined = running.with_macs(), defined.with_macs()
    before, after = getattr(running, key), getattr(defined, key)
    gone = {one.field for one in changes if one.device is not None and one.values is None}
    values = {_identity(_row(defined, one.field)): one.values for one in changes if one.values is not None}
    kept = [row for at, row in enumerate(before) if f"{key}[{at}]" not in gone]
    changed = [replace(row, **values.get(_identity(row), {})) for row in kept]
    new = [one.added for one in changes if one.added is not None and one.field.startswith(f"{key}[")]
    return [*changed, *new] == list(after)


def _row(instance: Instance, field: str) -> Disk | Nic:
    key, _, at = field.rstrip("]").partition("[")
    row: Disk | Nic = getattr(instance, key)[int(at)]
    return row


def _identity(row: Disk | Nic) -> str:
    return row.path if isinstance(row, Disk) else (row.mac or "").lower()


def listed_changes(param: str, running: object, defined: object, devices: Mapping[str, str]) -> tuple[LiveChange, ...]:
    """What to detach and to attach of the devices that a parameter lists, none if that does not lead to the defined list."""
    names: dict[int, str] = {}
    for name, field in devices.items():
        found = _ITEM.fullmatch(field)
        if found is not None and found[1] == param:
            names[int(found[2])] = name
    before, after = items_of(running), items_of(defined)
    kept = Counter(after)
    gone: list[int] = []
    for at, item in enumerate(before):
        if kept[item]:
            kept[item] -= 1
        else:
            gone.append(at)
    new = [item for item in after if kept[item] and not kept.subtract([item])]
    if [item for at, item in enumerate(before) if at not in gone] + new != after or not names.keys() >= set(gone):
        return ()
    # The last one first: the positions of those before it stay.
    leave = [LiveChange(field=f"params.{param}", device=names[at]) for at in reversed(gone)]
    come = [LiveChange(field=f"params.{param}", added=ListedDevice(param=param, item=item)) for item in new]
    return (*leave, *come)


def items_of(value: object) -> list[str]:
    """The devices in a parameter that lists them: a list, or a text that separates them by commas or spaces."""
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return [item for item in re.split("[, ]+", str(value or "")) if item]


def media_fields(devices: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that name the medium in a drive of the running instance, each with the name of the drive."""
    found = ((_MEDIUM.fullmatch(str(field)), name) for name, field in devices.items())
    return {match[1]: name for match, name in found if match is not None}
