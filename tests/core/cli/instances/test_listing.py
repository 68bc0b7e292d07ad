"""``hv info``: what a device is that follows from a parameter."""

from __future__ import annotations

from typing import Any

import pytest

from hvcore.cli.instances.listing import _of_param

PARAMS = {"cdrom_image_path": "/srv/a.iso", "floppy_image_path": None, "usb_devices": "tablet, keyboard mouse"}


@pytest.mark.parametrize(
    ("field", "params", "shown"),
    [
        ("params.cdrom_image_path", PARAMS, "/srv/a.iso (cdrom_image_path)"),
        ("params.floppy_image_path", PARAMS, "empty (floppy_image_path)"),
        ("params.usb_devices[0]", PARAMS, "tablet (usb_devices)"),
        ("params.usb_devices[2]", PARAMS, "mouse (usb_devices)"),
        ("params.usb_devices[3]", PARAMS, "empty (usb_devices)"),
        ("params.cdrom_image_path", {}, "the device of params.cdrom_image_path"),
    ],
)
def test_a_device_of_a_parameter_is_shown_by_its_value(field: str, params: dict[str, Any], shown: str) -> None:
    assert _of_param(field, params) == shown
