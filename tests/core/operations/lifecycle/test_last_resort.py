"""A stop by force when the driver of the instance cannot be used any more."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from distributions import installed

import hvcore


def test_stop_with_force_works_when_the_driver_is_blocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hvcore.Node(tmp_path / "run").driver("fake").start(hvcore.Instance(name="web1", driver="fake"))
    monkeypatch.setenv("HVCORE_DRIVERS", "kvm")
    node = hvcore.Node(tmp_path / "run")
    assert node.info("web1").state is hvcore.State.UNKNOWN
    outcome = node.stop("web1", force=True)
    assert (outcome.changed, outcome.stopped_by) == (True, "kill")
    assert node.instances() == []
    assert not list((tmp_path / "run" / "reservations" / "uid").iterdir())


def test_a_polite_stop_names_the_driver_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hvcore.Node(tmp_path / "run").driver("fake").start(hvcore.Instance(name="web1", driver="fake"))
    monkeypatch.setenv("HVCORE_DRIVERS", "kvm")
    with pytest.raises(hvcore.HvError, match="stop --force"):
        hvcore.Node(tmp_path / "run").stop("web1")


def test_what_runs_is_seen_and_stopped_politely_while_an_extension_of_its_driver_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hvcore.Node(tmp_path / "run").driver("fake").start(hvcore.Instance(name="web1", driver="fake"))
    entry = "[hvcore.extensions]\nfake.add_on = hv_add_on_that_is_not_there\n"
    installed(tmp_path / "site", "hv-add-on", entry, requires=())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    node = hvcore.Node(tmp_path / "run")
    assert node.info("web1").state is hvcore.State.RUNNING
    with pytest.raises(hvcore.DriverLoadError, match=r"hv-add-on 1\.0"):
        node.reboot("web1")
    assert node.info("web1").state is hvcore.State.RUNNING
    outcome = node.stop("web1")
    assert outcome.stopped_by == "powerdown"
    assert "hv-add-on 1.0" in outcome.notes[0]
    with pytest.raises(hvcore.DriverLoadError, match=r"hv-add-on 1\.0"):
        node.driver("fake")


def test_a_reboot_that_could_not_start_again_leaves_it_running(tmp_path: Path) -> None:
    node = hvcore.Node(tmp_path / "run")
    node.driver("fake").start(hvcore.Instance(name="web1", driver="fake"))
    record = node.run_dir / "instances" / "web1" / "record.json"
    body = record.read_bytes().split(b"\n")[0].replace(b'"fail_at":null,"ign', b'"fail_at":"verify","ign')
    record.write_bytes(body + f"\ncrc32:{zlib.crc32(body):08x}\n".encode())
    with pytest.raises(hvcore.VerifyError):
        node.reboot("web1")
    assert node.info("web1").state is hvcore.State.RUNNING
