"""The default run directory, and the default uids of guests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hvcore.errors import NodeError
from hvcore.host.environment import Host, default_run_dir, default_state_dir, default_uid_pool, journals_dir


def test_the_environment_chooses_the_run_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HVCORE_RUN_DIR", str(tmp_path))
    assert default_run_dir() == tmp_path


def test_the_default_run_directory_differs_for_root_and_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HVCORE_RUN_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_run_dir() == Path("/run/hvcore")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert default_run_dir() == Path("/run/user/1000/hvcore")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run/user/1000")
    with pytest.raises(NodeError, match="XDG_RUNTIME_DIR is not an absolute path"):
        default_run_dir()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(
        NodeError, match="XDG_RUNTIME_DIR is not an absolute path; set it, or choose one with --run-dir"
    ):
        default_run_dir()


def test_pool_uids_are_mapped_here_and_belong_to_no_user() -> None:
    pool = default_uid_pool()
    assert 0 not in pool
    assert 65534 not in pool
    assert len(pool) > 0


def test_results_of_probing_end_with_the_boot(tmp_path: Path) -> None:
    assert Host(run_dir=tmp_path, privileged=True, uid_pool=range(1)).cache_dir == tmp_path / "cache"


def test_the_environment_chooses_the_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HVCORE_STATE_DIR", str(tmp_path))
    assert default_state_dir() == tmp_path
    monkeypatch.setenv("HVCORE_STATE_DIR", "state")
    with pytest.raises(NodeError, match="HVCORE_STATE_DIR: is not an absolute path"):
        default_state_dir()


def test_the_default_state_directory_differs_for_root_and_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HVCORE_STATE_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir() == Path("/var/lib/hvcore")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/x/state")
    assert default_state_dir() == Path("/home/x/state/hvcore")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state_dir() == Path(os.path.expanduser("~/.local/state/hvcore"))


def test_each_run_directory_has_another_directory_for_its_journals() -> None:
    paths = (
        "/run/hvcore",
        "/run/hv-core",
        "/run/hv/core",
        "/run/hv\\x2dcore",
        "/run/hv\\core",
        "/",
        "/-",
        "/a/" + "b" * 300,
    )
    found = [journals_dir(Path("/state"), Path(path)) for path in (*paths, "/a/" + "b" * 301)]
    assert found[0] == Path("/state/migrations/run-hvcore")
    assert len(set(found)) == len(found)
    assert all(place.parent == Path("/state/migrations") and len(place.name) < 255 for place in found)
