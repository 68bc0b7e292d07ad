"""The JSON of instances and operations: keys that other programs rely on."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from hvcore import ConsoleAddress, ConsoleKind, Disk, InstanceInfo, Op, Outcome, State
from hvcore.model.observation import fault_of
from hvcore.plugin import Observation


def test_the_keys_of_an_instance_are_stable() -> None:
    data = InstanceInfo(
        name="w", driver="fake", state=State.PAUSED, details={"vnc": [1]}, disks=(Disk(path="/d"),)
    ).to_json()
    assert list(data) == [
        *("name", "driver", "state", "reason", "ended_by", "pid", "uuid", "memory_mib", "resident_mib", "vcpus"),
        *(
            "cpu_seconds",
            "uptime_s",
            "consoles",
            "details",
            "source",
            "started_at",
            "ended_at",
            "disks",
            "nics",
            "interfaces",
        ),
        *("autostart", "devices"),
    ]
    assert json.loads(json.dumps(data)) == data
    assert type(data["state"]) is str
    assert data["state"] == "paused"


def test_the_keys_of_an_outcome_are_stable() -> None:
    data = Outcome(name="w", op=Op.KILL, changed=True, state=State.STOPPED, stopped_by="kill", notes=("a",)).to_json()
    assert list(data) == ["name", "op", "changed", "state", "stopped_by", "seconds", "clean", "notes", "device"]
    assert json.loads(json.dumps(data)) == data
    assert (data["op"], data["state"], data["notes"]) == ("stop --force", "stopped", ["a"])


def test_every_observed_fact_is_in_the_info_of_the_instance() -> None:
    given: dict[str, Any] = {one.name: object() for one in fields(Observation)}
    info = InstanceInfo.of(Observation(**given), name="w", driver="fake", uuid=None)
    assert [name for name, value in given.items() if getattr(info, name) is not value] == []


@pytest.mark.parametrize("consoles", [("vnc",), [None], ({"kind": "vnc"},)])
def test_consoles_of_another_type_are_a_fault(consoles: Any) -> None:
    found = Observation(state=State.RUNNING, consoles=consoles)
    assert "not a tuple of hvcore.plugin.ConsoleAddress" in str(fault_of(found))
    good = (ConsoleAddress(kind=ConsoleKind.SERIAL, socket="/s"),)
    assert fault_of(Observation(state=State.RUNNING, consoles=good)) is None
