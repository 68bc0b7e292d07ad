"""A device keeps its slot: one more device takes a free slot, and no other device moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hv_kvm.devices.audio import SoundCard
from hv_kvm.devices.clock import Clock
from hv_kvm.devices.nic import UserNic
from hv_kvm.devices.virtio import Balloon
from hv_kvm.machine.placement import FIRST_SLOT, LAST_SLOT, display_address, place, placed_beside
from hv_kvm.machine.spec import Device, KvmSpec, PciDevice

PC: Final = KvmSpec(
    name="w", uuid="", machine="pc", qemu="", memory_mib=64, vcpus=1, kvm="auto", confinement="off", acpi=True
)
Q35: Final = replace(PC, machine="pc-q35-7.2")
ROOM: Final = LAST_SLOT + 1 - FIRST_SLOT


def nic(index: int, slot: int = 0) -> UserNic:
    return UserNic(index=index, model="e1000", mac="aa:00:00:00:00:01", boot_index=None, slot=slot)


def slots(spec: KvmSpec) -> list[int]:
    return [device.slot for device in spec.of(PciDevice)]


kinds = st.sampled_from([Balloon(), nic(0), SoundCard(name="gus"), SoundCard(name="ac97"), Clock(base="utc")])


@given(
    devices=st.lists(kinds, max_size=ROOM - 1),
    more=kinds,
    reserved=st.integers(0, 12),
    machine=st.sampled_from([PC, Q35]),
    unplugged=st.sets(st.integers(0, ROOM)),
)
def test_no_other_device_moves(
    devices: list[Device], more: Device, reserved: int, machine: KvmSpec, unplugged: set[int]
) -> None:
    try:
        placed = place(devices, reserved=reserved)
    except ValueError:
        return
    # Some were unplugged, so that there are holes.
    spec = replace(machine, devices=tuple(device for index, device in enumerate(placed) if index not in unplugged))
    try:
        after = placed_beside(spec, more, reserved=reserved)
    except ValueError:
        assert isinstance(more, PciDevice)
        assert not more.on_board
        assert set(range(max(FIRST_SLOT, reserved), LAST_SLOT + 1)) <= set(slots(spec))
        return
    assert after.devices[:-1] == spec.devices
    assert replace(after, devices=spec.devices) == spec
    added = after.devices[-1]
    assert type(added) is type(more)
    if isinstance(added, PciDevice) and added.needs_slot:
        assert added.slot not in slots(spec)
        assert FIRST_SLOT <= added.slot <= LAST_SLOT
        assert added.slot not in (0, 1, 2, 0x1F), "the chipset's and the display's"
    else:
        assert added == more


@pytest.mark.parametrize("machine", [PC, Q35])
@pytest.mark.parametrize(
    ("taken", "reserved", "expected"),
    [([], 12, 12), ([12], 12, 13), ([12, 14], 12, 13), ([3, 4, 12, 13], 12, 14), ([13], 12, 12), ([3, 5], 0, 4)],
)
def test_it_takes_the_first_free_slot_after_the_reserved_ones(
    machine: KvmSpec, taken: list[int], reserved: int, expected: int
) -> None:
    spec = replace(machine, devices=tuple(nic(index, slot) for index, slot in enumerate(taken)))
    assert slots(placed_beside(spec, nic(9), reserved=reserved)) == [*taken, expected]


def test_a_device_on_board_takes_a_reserved_slot() -> None:
    spec = replace(PC, devices=(Balloon(slot=3), nic(0, 12)))
    assert slots(placed_beside(spec, Balloon(), reserved=12)) == [3, 12, 4]


def test_a_device_on_another_bus_takes_no_slot() -> None:
    spec = replace(PC, devices=tuple(nic(index, FIRST_SLOT + index) for index in range(ROOM)))
    assert placed_beside(spec, SoundCard(name="gus")).devices[-1] == SoundCard(name="gus")
    assert placed_beside(spec, Clock(base="utc")).devices[-1] == Clock(base="utc")


def test_it_is_refused_when_every_slot_is_taken() -> None:
    spec = replace(PC, devices=tuple(nic(index, FIRST_SLOT + index) for index in range(ROOM)))
    for device, reserved, fit in ((nic(99), 3, 28), (nic(99), 12, 19), (Balloon(), 12, 28)):
        with pytest.raises(ValueError, match=f"more PCI devices than the {fit} slots"):
            placed_beside(spec, device, reserved=reserved)
    assert slots(placed_beside(replace(spec, devices=spec.devices[:-1]), nic(99)))[-1] == LAST_SLOT


@pytest.mark.parametrize(("machine", "bus", "display"), [(PC, "pci.0", "0x2"), (Q35, "pcie.0", "0x1")])
def test_the_place_is_written_for_its_machine(machine: KvmSpec, bus: str, display: str) -> None:
    spec = placed_beside(machine, nic(0), reserved=12)
    (device,) = spec.of(PciDevice)
    assert device.address(spec) == {"bus": bus, "addr": "0xc"}
    assert display_address(spec) == {"bus": bus, "addr": display}


def test_one_after_the_other_is_the_same_as_all_at_once() -> None:
    devices = [nic(0), nic(1), Balloon(), nic(2)]
    spec = PC
    for device in devices:
        spec = placed_beside(spec, device, reserved=12)
    assert spec.devices == place(devices, reserved=12)
