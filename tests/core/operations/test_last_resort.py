"""What can still be done when the driver that started an instance cannot be used any more."""

from __future__ import annotations

from pathlib import Path

import pytest

import hvcore


def test_stop_with_force_works_when_the_driver_is_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hvcore.Node(tmp_path / "run").driver("fake").start(hvcore.Instance(name="web1", driver="fake"))
    monkeypatch.setenv("HVCORE_DRIVERS", "kvm")
    node = hvcore.Node(tmp_path / "run")
    assert node.info("web1").state is hvcore.State.UNKNOWN
    outcome = node.stop("web1", force=True)
    assert (outcome.changed, outcome.rung) == (True, "kill")
    assert node.instances() == []
    assert not list((tmp_path / "run" / "reservations" / "uid").iterdir())


def test_a_polite_stop_names_the_driver_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hvcore.Node(tmp_path / "run").driver("fake").start(hvcore.Instance(name="web1", driver="fake"))
    monkeypatch.setenv("HVCORE_DRIVERS", "kvm")
    with pytest.raises(hvcore.HvError, match="stop --force"):
        hvcore.Node(tmp_path / "run").stop("web1")
