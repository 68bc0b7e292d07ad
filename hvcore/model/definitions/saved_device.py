"""The text of a definition with one device more or less, or with other settings of one. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Final

from hvcore.model.definitions.live_changes import items_of
from hvcore.model.definitions.toml_text import TomlTextError, with_table, with_value, without_table, without_value
from hvcore.model.devices import Disk, ListedDevice, Nic
from hvcore.model.instance import Instance

__all__ = ["with_device", "with_keys", "with_param", "without_device"]

_MISSING: Final = "does not have the device"


def with_device(text: str, defined: Instance, device: Disk | Nic | ListedDevice) -> str:
    """The text with the device in a table at its end, or at the end of its list. Raises `TomlTextError`."""
    if isinstance(device, ListedDevice):
        return _with_items(text, device.param, [*items_of(defined.params.get(device.param)), device.item])
    values = {one.name: getattr(device, one.name) for one in fields(device)}
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    defaults = {one.name: one.default for one in fields(device)}
    kept = {key: value for key, value in given.items() if value != defaults[key] and value != []}
    return with_table(text, "disks" if isinstance(device, Disk) else "nics", kept or {"mode": values["mode"]})


def without_device(text: str, defined: Instance, device: Disk | Nic | ListedDevice) -> str:
    """The text without the disk of that path, the NIC of that MAC address, or the last such device of a list.

    Raises `TomlTextError` without such a one.
    """
    if isinstance(device, ListedDevice):
        items = items_of(defined.params.get(device.param))
        if device.item not in items:
            raise TomlTextError(_MISSING)
        at = len(items) - 1 - items[::-1].index(device.item)
        return _with_items(text, device.param, [*items[:at], *items[at + 1 :]])
    return without_table(text, *_place(defined, device))


def with_keys(text: str, defined: Instance, device: Disk | Nic, keys: Collection[str]) -> str:
    """The text in which these keys of that disk or NIC have the values of the device. Raises `TomlTextError`."""
    table, at = _place(defined, device)
    defaults = {one.name: one.default for one in fields(device)}
    for key in keys:
        value = getattr(device, key)
        if value == defaults[key]:
            text = without_value(text, (table, at, key))
        else:
            text = with_value(text, (table, at, key), list(value) if isinstance(value, tuple) else value)
    return text


def _place(defined: Instance, device: Disk | Nic) -> tuple[str, int]:
    """The table of the disk of that path, or of the NIC of that MAC address, and its number."""
    if isinstance(device, Disk):
        found = [at for at, disk in enumerate(defined.disks) if disk.path == device.path]
    else:
        found = [at for at in range(len(defined.nics)) if defined.mac(at).lower() == (device.mac or "").lower()]
    if not found:
        raise TomlTextError(_MISSING)
    return "disks" if isinstance(device, Disk) else "nics", found[0]


def with_param(text: str, key: str, value: str | None) -> str:
    """The text with that value of a parameter; without the parameter for None. Raises `TomlTextError`."""
    place = ("params", key)
    return without_value(text, place) if value is None else with_value(text, place, value)


def _with_items(text: str, param: str, items: Sequence[str]) -> str:
    return with_param(text, param, ",".join(items) or None)
