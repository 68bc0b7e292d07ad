"""The devices in which a running instance and its definition differ as a whole: those can change while it runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hvcore.frozen import dataclass
from hvcore.model.devices import Disk, Nic
from hvcore.model.instance import Instance

__all__ = ["LiveChange", "live_changes", "media_fields"]

_PARAM: Final = "params."


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveChange:
    """A device to detach, by its name and its field of the running instance; or one to attach, by its field of the definition."""

    field: str
    device: str | None = None
    added: Disk | Nic | None = None


def live_changes(running: Instance, defined: Instance, devices: Mapping[str, str]) -> tuple[LiveChange, ...]:
    """What to detach, then what to attach. A disk is known by its path, a NIC by its MAC address.

    ``devices`` are the names of the running instance's devices, with their fields. A device of which only settings differ
    is not among them.
    """
    names = {field: name for name, field in devices.items()}
    running, defined = running.with_macs(), defined.with_macs()
    gone: list[LiveChange] = []
    new: list[LiveChange] = []
    for key in ("disks", "nics"):
        before, after = getattr(running, key), getattr(defined, key)
        gone += [
            LiveChange(field=field, device=names[field]) for field in _only_in(key, before, after) if field in names
        ]
        rows = {f"{key}[{at}]": row for at, row in enumerate(after)}
        new += [LiveChange(field=field, added=rows[field]) for field in _only_in(key, after, before)]
    return (*gone, *new) if devices else ()


def _only_in(key: str, rows: Sequence[Disk | Nic], others: Sequence[Disk | Nic]) -> list[str]:
    known = {_identity(row) for row in others}
    return [f"{key}[{at}]" for at, row in enumerate(rows) if _identity(row) not in known]


def _identity(row: Disk | Nic) -> str:
    return row.path if isinstance(row, Disk) else (row.mac or "").lower()


def media_fields(devices: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that name the medium in a drive of the running instance, each with the name of the drive."""
    return {field.removeprefix(_PARAM): name for name, field in devices.items() if str(field).startswith(_PARAM)}
