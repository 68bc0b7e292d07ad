"""The text of a definition with one device more or less. Pure."""

from __future__ import annotations

from dataclasses import fields

from hvcore.model.devices import Disk, Nic
from hvcore.model.instance import Instance
from hvcore.model.toml_text import TomlTextError, with_table, without_table

__all__ = ["with_device", "without_device"]


def with_device(text: str, device: Disk | Nic) -> str:
    """The text with the device in a table at its end. Raises `TomlTextError`."""
    values = {one.name: getattr(device, one.name) for one in fields(device)}
    given = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    defaults = {one.name: one.default for one in fields(device)}
    kept = {key: value for key, value in given.items() if value != defaults[key] and value != []}
    return with_table(text, "disks" if isinstance(device, Disk) else "nics", kept or {"mode": values["mode"]})


def without_device(text: str, defined: Instance, device: Disk | Nic) -> str:
    """The text without the disk of that path, or the NIC of that MAC address. Raises `TomlTextError` without such a one."""
    if isinstance(device, Disk):
        found = [at for at, disk in enumerate(defined.disks) if disk.path == device.path]
    else:
        found = [at for at in range(len(defined.nics)) if defined.mac(at).lower() == (device.mac or "").lower()]
    if not found:
        raise TomlTextError("does not have the device")
    return without_table(text, "disks" if isinstance(device, Disk) else "nics", found[0])
