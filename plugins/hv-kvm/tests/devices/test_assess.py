"""The warnings of the driver: values that are slow, unsafe or hard to migrate, given or by default."""

from __future__ import annotations

from typing import Any, Final

import pytest

from hvcore import Disk, Instance, Nic
from hvcore.model.layers import Layer, Layers
from hvcore.plugins.loader import load

KVM: Final = load("kvm")


def warned_of(**params: Any) -> list[str]:
    """The paths in the warnings for a guest with a disk and a NIC."""
    disks, nics = (Disk(path="/srv/web1.img"),), (Nic(mode="user"),)
    web1 = Instance(name="web1", driver="kvm", disks=disks, nics=nics, params=params)
    return [problem.path for problem in KVM.warnings(web1, KVM.check(web1))]


# Values that a node sets once for all guests, see docs/how-to/set-defaults.md.
NAMED: Final = {"machine_version": "pc-i440fx-7.2", "cpu_type": "Nehalem"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, ["params.cpu_type", "params.machine_version"]),
        ({"kvm_flag": "enabled"}, ["params.cpu_type", "params.machine_version"]),
        ({"kvm_flag": "disabled"}, ["params.machine_version"]),
        (NAMED, []),
    ],
    ids=str,
)
def test_a_default_machine_and_cpu_model_give_warnings(params: dict[str, Any], expected: list[str]) -> None:
    assert sorted(warned_of(**params)) == expected


def test_values_for_all_guests_of_a_node_give_no_warning() -> None:
    web1 = Instance(name="web1", driver="kvm")
    layers = Layers(layers=(Layer(name="node", file="/etc/hvcore/node.toml", values=NAMED),))
    assert KVM.warnings(web1, KVM.check(web1, layers), layers) == ()


@pytest.mark.parametrize(
    "params",
    [
        {"machine_version": "pc"},
        {"machine_version": "q35"},
        {"cpu_type": "qemu64,+ssse3"},
        {"cpu_type": "host"},
        {"disk_type": "ide"},
        {"nic_type": "e1000"},
        {"vnc_bind_address": "0.0.0.0"},
        {"kvm_extra": "-no-user-config"},
    ],
    ids=str,
)
def test_a_value_that_is_slow_unsafe_or_hard_to_migrate_gives_a_warning(params: dict[str, Any]) -> None:
    (key,) = params
    assert set(warned_of(**NAMED | params)) == {f"params.{key}"}


def test_an_emulated_cpu_gives_no_warning_about_its_model() -> None:
    assert warned_of(machine_version="pc-i440fx-7.2", cpu_type="qemu64", kvm_flag="disabled") == []
