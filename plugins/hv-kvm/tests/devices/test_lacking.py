"""A feature that this QEMU lacks is refused before a start, with the parameter that needs it, by its facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

import hvcore
from hv_kvm.machine.facts import Facts
from hvcore import Problem
from hvcore.plugins.loader import load

KVM: Final = load("kvm")


def problems_of(facts: Facts, **given: Any) -> list[str]:
    disks = (hvcore.Disk(path="/srv/web1.img", **given.pop("disk", {})),)
    nics = (hvcore.Nic(),)
    instance = hvcore.Instance(name="web1", driver="kvm", disks=disks, nics=nics, params=given)
    spec = KVM.driver.plan(instance, KVM.check(instance))
    return [str(problem) for _, problem in KVM.hooks.items("verify", Problem, spec=spec, facts=facts)]


@pytest.mark.parametrize(
    ("lacks", "given", "problem"),
    [
        ("virtio-blk-pci", {}, "params.disk_type: {this} has no virtio-blk-pci; use another"),
        ("scsi-hd", {"disk_type": "scsi-hd"}, "params.disk_type: {this} has no scsi-hd; use another"),
        ("virtio-net-pci", {}, "params.nic_type: {this} has no virtio-net-pci; use another"),
        ("tpm-crb", {"tpm_version": "2.0", "tpm_state_path": "/t"}, "params.tpm_version: {this} has no tpm-crb"),
        ("virtio-rng-pci", {}, "params.virtio_rng: {this} has no virtio-rng-pci"),
        ("virtio-balloon-pci", {}, "params.memory_balloon: {this} has no virtio-balloon-pci"),
        (
            "cfi.pflash01",
            {"boot_firmware": "uefi", "uefi_vars_path": "/v"},
            "params.boot_firmware: {this} has no flash memory",
        ),
        ("aio io_uring", {"disk_aio": "io_uring"}, "params.disk_aio: {this} was built without io_uring"),
        ("block qcow2", {"disk": {"format": "qcow2"}}, "disks[0].path: {this} has no qcow2"),
        ("option spice", {"spice_bind": "127.0.0.1"}, "params.spice_bind: {this} has"),
    ],
    ids=str,
)
def test_a_missing_feature_is_refused_with_its_parameter(
    recorded: dict[str, Facts], lacks: str, given: dict[str, Any], problem: str
) -> None:
    facts = recorded["7.2"]
    assert problems_of(facts, **dict(given)) == []
    kind, _, name = lacks.rpartition(" ")
    less = {
        "": replace(facts, types=facts.types - {name}),
        "aio": replace(facts, aio=facts.aio - {name}),
        "block": replace(facts, block_drivers=facts.block_drivers - {name}),
        "option": without_spice(facts),
    }[kind]
    (found,) = problems_of(less, **given)
    assert found.startswith(problem.format(this=f"this QEMU ({facts.version})"))


def without_spice(facts: Facts) -> Facts:
    """A QEMU without SPICE: it has neither the option nor the types of the modules."""
    options = {name: parameters for name, parameters in facts.options.items() if name != "spice"}
    return replace(facts, options=options, types=frozenset(kind for kind in facts.types if "spice" not in kind))
