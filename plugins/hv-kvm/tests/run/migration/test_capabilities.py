"""Which capabilities of QEMU are on for a migration."""

from __future__ import annotations

import pytest

import hvcore.plugin as hv
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


SENT = {"sending": {"job": "j1", "sent": True, "switched": False}}
BEGUN = {"sending": {"job": "j1", "sent": False, "switched": False}}


@pytest.mark.parametrize(
    ("status", "bindings", "state"),
    [
        ("", {}, "none"),
        ("wait-unplug", SENT, "active"),
        ("a-word-of-2030", SENT, "active"),
        ("completed", SENT, "completed"),
        ("completed", {"landing": {}}, "completed"),
        ("completed", {}, "none"),  # it has arrived earlier
        ("completed", BEGUN, "cancelled"),  # of an earlier job, or this one was killed before it could note that
        ("failed", BEGUN, "cancelled"),
        ("active", BEGUN, "active"),
        ("postcopy-paused", {"landing": {}}, "postcopy-paused"),
    ],
)
def test_the_word_of_an_earlier_migration_is_not_taken_for_this_one(
    status: str, bindings: dict[str, object], state: str
) -> None:
    assert state_of(status, bindings) == state
