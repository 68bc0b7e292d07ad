"""The text of a definition with one device more or less, or with other settings of one. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields

from hvcore.model.definitions.toml_text import TomlTextError, with_table, with_value, without_table, without_value
from hvcore.model.devices import Disk, Nic
from hvcore.model.instance import Instance

__all__ = ["with_device", "with_keys", "without_device"]


def with_device(text: str, device: Disk | Nic) -> str:
    """The text with the device in a table at its end. Raises `TomlTextError`."""
    values = {one.name: getattr(device, one.name) for one in fields(device)}
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    defaults = {one.name: one.default for one in fields(device)}
    kept = {key: value for key, value in given.items() if value != defaults[key] and value != []}
    return with_table(text, "disks" if isinstance(device, Disk) else "nics", kept or {"mode": values["mode"]})


def without_device(text: str, defined: Instance, device: Disk | Nic) -> str:
    """The text without the disk of that path, or the NIC of that MAC address. Raises `TomlTextError` without such a one."""
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
        raise TomlTextError("does not have the device")
    return "disks" if isinstance(device, Disk) else "nics", found[0]
