"""Which CPUs each thread of QEMU may use."""

from __future__ import annotations

from typing import Any

import pytest

from hv_kvm.machine.cpu_places import CpuPlaces, places, with_pins
from hv_kvm.machine.saved import saved_device, with_values
from hvcore.plugin import InputError, Pins


@pytest.mark.parametrize(
    ("cpu", "vcpus", "wanted"),
    [
        ({}, 2, CpuPlaces(vcpus=("all", "all"))),
        ({"mask": "0-1"}, 2, CpuPlaces(vcpus=("0-1", "0-1"), emulator="0-1", iothreads="0-1")),
        ({"mask": "0-1", "emulator": "2"}, 1, CpuPlaces(vcpus=("0-1",), emulator="2", iothreads="0-1")),
        ({"mask": "0:1"}, 2, CpuPlaces(vcpus=("0", "1"))),
        ({"mask": "0:1", "iothreads": "3"}, 3, CpuPlaces(vcpus=("0", "1", "all"), iothreads="3")),
        ({"mask": "0:1:2"}, 2, CpuPlaces(vcpus=("0", "1"))),
        ({"mask": "0", "emulator": "all"}, 1, CpuPlaces(vcpus=("0",), emulator="all", iothreads="0")),
    ],
)
def test_one_list_is_for_all_threads_without_their_own(cpu: Any, vcpus: int, wanted: CpuPlaces) -> None:
    assert places(cpu, vcpus) == wanted


@pytest.mark.parametrize(
    ("cpu", "pins", "wanted"),
    [
        ({}, Pins(mask="0-1"), {"mask": "0-1", "emulator": None, "iothreads": None}),
        ({"mask": "0:1", "emulator": "2"}, Pins(mask="3"), {"mask": "3", "emulator": None, "iothreads": None}),
        ({"emulator": "2"}, Pins(mask="0:1"), {"mask": "0:1", "emulator": "2", "iothreads": None}),
        ({"mask": "0-1"}, Pins(vcpus={1: "3"}), {"mask": "0-1:3", "emulator": "0-1", "iothreads": "0-1"}),
        ({}, Pins(vcpus={0: "3"}), {"mask": "3:all", "emulator": "all", "iothreads": "all"}),
        ({}, Pins(emulator="1"), {"mask": "all", "emulator": "1", "iothreads": None}),
        ({"mask": "0"}, Pins(mask="all"), {"mask": "all", "emulator": None, "iothreads": None}),
    ],
)
def test_a_pin_of_one_role_leaves_the_others(cpu: Any, pins: Pins, wanted: Any) -> None:
    found = with_pins("web1", cpu, 2, pins)
    assert found == wanted
    if pins.vcpus:
        before, after = places(cpu, 2), places(found, 2)
        assert (after.emulator, after.iothreads) == (before.emulator, before.iothreads)


def test_the_only_vcpu_can_have_another_list_than_the_rest() -> None:
    found = places(with_pins("web1", {}, 1, Pins(vcpus={0: "3"})), 1)
    assert found == CpuPlaces(vcpus=("3",), emulator="all", iothreads="all")


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        (Pins(mask="0:1:2"), "mask: has 3 lists, but the instance has 2 vcpus, got '0:1:2'"),
        (Pins(vcpus={2: "0"}), "vcpus: has no vCPU 2, only 2; give a number from 0 to 1"),
    ],
)
def test_a_vcpu_that_does_not_exist_is_refused(pins: Pins, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_pins("web1", {}, 2, pins)


def test_what_is_used_and_how_it_is_shown() -> None:
    one, several = places({"mask": "0-1"}, 2), places({"mask": "0:3", "emulator": "2"}, 2)
    assert (one.used, one.pinned, str(one)) == (frozenset({0, 1}), True, "all threads 0-1")
    assert (several.used, str(several)) == (frozenset({0, 2, 3}), "vcpus 0:3, emulator 2, iothreads all")
    assert (places({}, 4).used, places({}, 4).pinned) == (frozenset(), False)


def test_a_saved_device_is_changed_without_its_class() -> None:
    spec: dict[str, Any] = {"vcpus": 2, "devices": [{"kind": "Beeper", "hz": 440}, {"kind": "Cpu", "mask": "all"}]}
    assert saved_device(spec, "Cpu") == {"kind": "Cpu", "mask": "all"}
    assert saved_device(spec, "Balloon") is None
    changed = with_values(spec, "Cpu", mask="0")
    assert changed["devices"] == [{"kind": "Beeper", "hz": 440}, {"kind": "Cpu", "mask": "0"}]
    assert spec["devices"][1] == {"kind": "Cpu", "mask": "all"}
