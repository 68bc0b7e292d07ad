"""The device of this extension: its options, its refusals and its warnings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hv_watchdog.plugin import Watchdog, render, verify

import hvcore
from hv_kvm.plugin import Facts, KvmSpec


@pytest.fixture
def kvm(tmp_path: Path) -> hvcore.DriverHandle:
    """The driver, on a node without instances."""
    return hvcore.Node(tmp_path / "run").driver("kvm")


def web1(**params: object) -> hvcore.Instance:
    return hvcore.Instance(name="web1", driver="kvm", params={"kvm_flag": "disabled", **params})


def facts(*, types: frozenset[str], options: dict[str, frozenset[str]]) -> Facts:
    """A QEMU that has only these."""
    nothing: frozenset[str] = frozenset()
    return Facts(
        version="7.2.22",
        package="",
        commands=nothing,
        options=options,
        machines=(),
        types=types,
        cpu_models=nothing,
        block_drivers=nothing,
        aio=nothing,
        kvm_present=False,
        kvm_enabled=False,
    )


def spec(action: str) -> KvmSpec:
    """A machine with a watchdog in slot 5 and nothing else."""
    machine = {"machine": "pc", "qemu": "", "kvm": "", "confinement": "off"}
    return KvmSpec(
        name="web1", uuid="", memory_mib=64, vcpus=1, acpi=True, devices=(Watchdog(slot=5, action=action),), **machine
    )


def test_the_parameters_belong_to_the_driver(kvm: hvcore.DriverHandle) -> None:
    assert kvm.schema.owner("watchdog_action") == "kvm.watchdog (hv-watchdog 0.1.0)"


@pytest.mark.parametrize(
    ("params", "refused"),
    [
        (
            {"watchdog": False, "watchdog_action": "reset"},
            "has no effect without a watchdog, got 'reset'; set watchdog = true",
        ),
        ({"watchdog_action": "shutdown", "acpi": False}, "needs acpi, which is off, got 'shutdown'; use 'poweroff'"),
        ({"watchdog_action": "reset", "reboot_behavior": "exit"}, "ends a guest with reboot_behavior 'exit'"),
        ({"watchdog_action": "explode"}, "is not a known choice, got 'explode'"),
    ],
)
def test_a_contradiction_is_refused(kvm: hvcore.DriverHandle, params: dict[str, object], refused: str) -> None:
    with pytest.raises(hvcore.ParamsError, match=refused):
        kvm.check(web1(**{"watchdog": True, **params}))


@pytest.mark.parametrize("action", ["pause", "debug", "none"])
def test_an_action_that_does_not_restart_the_guest_is_a_warning(kvm: hvcore.DriverHandle, action: str) -> None:
    (own,) = [found for found in kvm.warnings(web1(watchdog=True, watchdog_action=action)) if "watchdog" in found.path]
    assert own.what.startswith("does not restart a guest")


def test_the_action_has_the_form_that_this_qemu_knows() -> None:
    new = facts(types=frozenset(), options={"action": frozenset({"watchdog"})})
    old = facts(types=frozenset(), options={})
    device = ("-device", "i6300esb,id=watchdog0,bus=pci.0,addr=0x5")
    assert [option.argv for option in render(spec("pause"), new)] == [device, ("-action", "watchdog=pause")]
    assert [option.argv for option in render(spec("pause"), old)] == [device, ("-watchdog-action", "pause")]


def test_a_qemu_without_the_device_is_reported() -> None:
    assert list(verify(spec("reset"), facts(types=frozenset({"i6300esb"}), options={}))) == []
    (problem,) = verify(spec("reset"), facts(types=frozenset(), options={}))
    assert problem.path == "params.watchdog"
    assert "i6300esb" in problem.what


@pytest.mark.parametrize("action", ["shutdown", "inject-nmi"])
def test_plan_shows_the_device_where_disks_keep_their_slots(kvm: hvcore.DriverHandle, action: str) -> None:
    with_one, without = (kvm.plan(web1(**params)) for params in ({"watchdog": True, "watchdog_action": action}, {}))
    added = [change for change in hvcore.differences(without, with_one) if change.kind == "added"]
    assert [change.after.origin.plugin for change in added if change.after is not None] == ["kvm.watchdog"] * 2
    assert len(added) == len(hvcore.differences(without, with_one))
