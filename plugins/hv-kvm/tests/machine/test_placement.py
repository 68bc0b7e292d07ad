"""PCI slots: the slot that each device gets, and machines that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from hv_kvm.devices.clock import Clock
from hv_kvm.devices.nic import UserNic
from hv_kvm.devices.virtio import Balloon
from hv_kvm.machine.placement import place
from hv_kvm.machine.spec import Device, PciDevice


def nic(index: int = 0) -> UserNic:
    return UserNic(index=index, model="e1000", mac="", boot_index=None)


def slots(*devices: Device, **more: Any) -> list[int | None]:
    return [device.slot if isinstance(device, PciDevice) else None for device in place(devices, **more)]


def test_devices_on_board_get_the_reserved_slots() -> None:
    assert slots(Balloon(), nic(), Clock(base="utc"), Balloon(), nic(1), reserved=12) == [3, 12, None, 4, 13]


def test_one_more_device_on_board_moves_no_nic() -> None:
    assert slots(*[Balloon()] * 12, nic(), reserved=12)[-1] == slots(nic(), reserved=12)[0] == 12
    assert slots(*[Balloon()] * 12, nic(), reserved=12)[-2] == 15


def test_without_reservations_both_begin_at_the_first() -> None:
    assert slots(Balloon(), nic(), nic(1), reserved=0) == [5, 3, 4]


@pytest.mark.parametrize(("reserved", "fit"), [(0, 28), (12, 19), (30, 1), (31, 0), (32, 0)])
def test_more_devices_than_slots_are_refused(reserved: int, fit: int) -> None:
    place([nic(index) for index in range(fit)], reserved=reserved)
    with pytest.raises(ValueError, match=f"more PCI devices than the {fit} slots"):
        place([nic(index) for index in range(fit + 1)], reserved=reserved)
