"""A machine is read from its record unchanged, with every class of device that a family plans."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hvcore
import hvcore.plugin
from hv_kvm.machine.spec import Device, KvmSpec, kinds_of, read_spec
from hvcore.config import load_instance
from hvcore.plugins.loader import load

KVM: Final = load("kvm")
KINDS: Final = kinds_of(KVM.hooks)
SPEC: Final = KvmSpec(
    name="web1", uuid="", machine="pc", qemu="", memory_mib=1, vcpus=1, kvm="auto", confinement="auto", acpi=True
)
CASES: Final = sorted((Path(__file__).parents[1] / "golden").glob("*/*.toml"))


def kept(spec: KvmSpec) -> Any:
    """The machine as a record has it, through JSON."""
    return json.loads(json.dumps(hvcore.plugin.encode(spec)))


def anything(kind: type[Device]) -> st.SearchStrategy[Device]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: st.from_type(hints[field.name]) for field in dataclasses.fields(kind)})


@settings(suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(sorted(KINDS, key=lambda kind: kind.__name__)).flatmap(anything), max_size=4))
def test_all_devices_of_a_machine_are_read_back(devices: list[Device]) -> None:
    spec = dataclasses.replace(SPEC, devices=tuple(devices))
    assert read_spec(kept(spec), KINDS) == spec


def test_the_devices_of_the_families_are_read_back_and_include_each_class() -> None:
    seen = set()
    for case in CASES:
        try:
            instance = load_instance(str(case))
            spec = KVM.driver.plan(instance, KVM.check(instance))
        except hvcore.ParamsError:
            continue
        assert read_spec(kept(spec), KINDS) == spec, case
        seen |= {type(device) for device in spec.devices}
    assert seen == set(KINDS)


def test_a_device_of_a_missing_plugin_is_refused() -> None:
    data = {**kept(SPEC), "devices": [{"kind": "Watchdog", "action": "reset"}]}
    with pytest.raises(
        hvcore.RecordError, match=r"spec\.devices\[0\]: is a 'Watchdog', must be a Device that is known"
    ):
        read_spec(data, KINDS)
