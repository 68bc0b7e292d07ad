"""Which capabilities of QEMU are on for a migration."""

from __future__ import annotations

import pytest

import hvcore.plugin as hv
from hv_kvm.qmp import migration_commands
from hv_kvm.run.migration import capabilities
from hv_kvm.run.migration.progress import state_of

HAS = {"return-path": False, "events": True, "late-block-activate": True, "xbzrle": False, "multifd": True}


def test_only_what_differs_is_changed() -> None:
    found = capabilities.states(HAS, ["xbzrle", "late-block-activate"], postcopy=False, mirror=False)
    assert found == {"return-path": True, "late-block-activate": False, "xbzrle": True, "multifd": False}


def test_modes_and_storage_switch_on_what_they_need() -> None:
    has = {"postcopy-ram": False, "pause-before-switchover": False}
    assert capabilities.states(has, [], postcopy=True, mirror=True) == dict.fromkeys(has, True)


def test_what_does_not_work_has_a_reason() -> None:
    found = list(capabilities.unusable(HAS, ["xbzrle", "zero-copy-send", "dirty-limit"], postcopy=True))
    assert [reason.partition(" ")[0] for reason in found] == ["zero-copy-send", "dirty-limit", "postcopy-ram"]


def test_no_limit_is_a_number_that_each_qemu_takes() -> None:
    assert capabilities.parameters(hv.Tuning(bandwidth_bps=0))["max-bandwidth"] > 1 << 30
    assert capabilities.parameters(hv.Tuning(downtime_ms=0)) == {"downtime-limit": 0}


@pytest.mark.parametrize(
    ("said", "arriving", "state"),
    [
        ({}, False, "none"),
        ({"status": "wait-unplug"}, False, "active"),
        ({"status": "a-word-of-2030"}, False, "active"),
        ({"status": "completed", "total_ms": 5}, False, "completed"),
        ({"status": "completed"}, True, "completed"),
        ({"status": "completed"}, False, "none"),
        ({"status": "postcopy-paused"}, True, "postcopy-paused"),
    ],
)
def test_a_guest_that_has_arrived_earlier_has_not_left(said: dict[str, object], *, arriving: bool, state: str) -> None:
    found = migration_commands.Migration(**said)  # type: ignore[arg-type]
    assert state_of(found, arriving=arriving) == state
