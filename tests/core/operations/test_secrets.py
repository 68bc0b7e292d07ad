"""Secret parameters never reach the disk, and what that costs is said."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributions import installed

import hvcore

_PLUGIN = """
import hvcore.plugin as hv

@hv.hookimpl
def params():
    return hv.ParamGroup("vault", hv.Param("vault_key", hv.text(), secret=True, help="Opens the vault."))
"""
_METADATA = "Metadata-Version: 2.1\nName: hv-vault\nVersion: 1.0\nRequires-Dist: hvcore>=0.1,<0.2\n"


@pytest.fixture
def vaulted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hvcore.Node]:
    """A node on which an extension gives driver fake a secret parameter."""
    site = tmp_path / "site"
    installed(site, "hv-vault", "[hvcore.extensions]\nfake.vault = hv_vault\n")
    (site / "hv_vault.py").write_text(_PLUGIN)
    monkeypatch.syspath_prepend(str(site))
    yield hvcore.Node(tmp_path / "run")
    sys.modules.pop("hv_vault", None)


def test_a_secret_parameter_is_nowhere_in_the_run_directory(vaulted: hvcore.Node) -> None:
    instance = hvcore.Instance(name="web1", driver="fake", params={"vault_key": "hunter2hunter2"})
    vaulted.driver("fake").start(instance)
    written = [path.read_bytes() for path in vaulted.run_dir.rglob("*") if path.is_file()]
    assert written
    assert not any(b"hunter2" in data for data in written)


def test_starting_again_with_the_same_secret_is_no_difference(vaulted: hvcore.Node) -> None:
    instance = hvcore.Instance(name="web1", driver="fake", params={"vault_key": "hunter2hunter2"})
    vaulted.driver("fake").start(instance)
    assert vaulted.driver("fake").start(instance).notes == ()


def test_a_reboot_that_would_need_the_secret_is_refused_and_leaves_it_running(vaulted: hvcore.Node) -> None:
    vaulted.driver("fake").start(hvcore.Instance(name="web1", driver="fake", params={"vault_key": "hunter2hunter2"}))
    with pytest.raises(hvcore.OperationError, match="vault_key is not in it; stop it and start it"):
        vaulted.reboot("web1")
    assert vaulted.info("web1").state is hvcore.State.RUNNING


def test_a_driver_that_would_write_the_secret_into_its_spec_is_not_started(
    vaulted: hvcore.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = pytest.importorskip("hv_fake.plugin").FakeDriver
    plan = fake.plan

    def leaking(self: object, instance: hvcore.Instance, params: hvcore.Params) -> object:
        return dataclasses.replace(plan(self, instance, params), motd=f"psst: {params['vault_key']}")

    monkeypatch.setattr(fake, "plan", leaking)
    instance = hvcore.Instance(name="web1", driver="fake", params={"vault_key": "hunter2hunter2"})
    with pytest.raises(hvcore.DriverLoadError, match="puts a secret parameter into its spec"):
        vaulted.driver("fake").start(instance)
    assert vaulted.instances() == []
