"""Devices in the saved spec of a running guest, as plain JSON: read and changed without the classes of extensions. Pure.

An operation on a running guest must work also if an extension of its start is not installed any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["saved_device", "with_values"]


def saved_device(spec: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    """The first device of the class of that name; None without one."""
    found: Mapping[str, Any]
    for found in spec.get("devices", ()):
        if found.get("kind") == kind:
            return found
    return None


def with_values(spec: Mapping[str, Any], kind: str, **values: Any) -> dict[str, Any]:
    """The spec with other values in the devices of that class."""
    devices = [{**device, **values} if device.get("kind") == kind else device for device in spec.get("devices", ())]
    return {**spec, "devices": devices}
