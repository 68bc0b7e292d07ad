"""What the driver warns of: what a file asks for, and never a default that nobody chose."""

from __future__ import annotations

from typing import Any, Final

import pytest

from hvcore import Disk, Instance, Nic
from hvcore.loader import load

KVM: Final = load("kvm")


def warned_of(**params: Any) -> list[str]:
    """The paths that are warned of for a guest with a disk and a NIC."""
    disks, nics = (Disk(path="/srv/web1.img"),), (Nic(mode="user"),)
    web1 = Instance(name="web1", driver="kvm", disks=disks, nics=nics, params=params)
    return [problem.path for problem in KVM.warnings(web1, KVM.check(web1))]


@pytest.mark.parametrize("params", [{}, {"kvm_flag": "enabled"}, {"kvm_flag": "disabled"}])
def test_a_file_that_chooses_little_is_not_warned_of(params: dict[str, Any]) -> None:
    assert warned_of(**params) == []


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
def test_a_choice_that_is_slow_unsafe_or_hard_to_move_is_warned_of(params: dict[str, Any]) -> None:
    (key,) = params
    assert set(warned_of(**params)) == {f"params.{key}"}


def test_the_model_of_the_processors_is_no_matter_where_they_are_emulated() -> None:
    assert warned_of(cpu_type="qemu64", kvm_flag="disabled") == []
