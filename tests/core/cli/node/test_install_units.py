"""``hv install-units``: units that systemd accepts."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from fixture_types import Hv

UNITS = ["hvcore-act.service", "hvcore-act.timer", "hvcore-autostart.service", "hvcore.service"]


def test_units_are_installed_below_a_root(hv: Hv, tmp_path: Path) -> None:
    for _ in range(2):
        result = hv("install-units", "--root", str(tmp_path), "--hv", "/usr/bin/hv")
        assert (result.exit_code, result.stderr) == (0, "")
    place = tmp_path / "etc/systemd/system"
    assert sorted(path.name for path in place.iterdir()) == UNITS
    text = (place / "hvcore.service").read_text()
    assert "ExecStop=/usr/bin/hv stop --all --deadline 90\nTimeoutStopSec=150\n" in text
    assert (place / "hvcore.service").stat().st_mode & 0o777 == 0o644
    assert "ExecStart=/usr/bin/hv start --autostart\n" in (place / "hvcore-autostart.service").read_text()


def test_a_dry_run_installs_nothing(hv: Hv, tmp_path: Path) -> None:
    result = hv("install-units", "--dry-run", "--root", str(tmp_path), "--directory", "/usr/lib/systemd/system")
    assert f"# {tmp_path}/usr/lib/systemd/system/hvcore.service\n" in result.stdout
    found = json.loads(hv("install-units", "--dry-run", "--root", str(tmp_path), "--json").stdout)
    assert (found["installed"], sorted(found["units"])) == (False, UNITS)
    assert list(tmp_path.glob("*/systemd")) == []


@pytest.mark.parametrize("path", ["hv", "/a b/hv", "/a%b/hv", "/a\nb", "/$HOME/hv"])
def test_a_path_that_a_unit_cannot_have_is_refused(hv: Hv, path: str) -> None:
    result = hv("install-units", "--dry-run", "--hv", path)
    assert result.exit_code == 2
    assert "--hv: must be an absolute path" in result.stderr


def test_a_directory_that_cannot_be_written_is_named(hv: Hv, tmp_path: Path) -> None:
    (tmp_path / "etc").touch()
    result = hv("install-units", "--root", str(tmp_path))
    assert result.exit_code == 1
    assert "units of systemd: cannot be written to" in result.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_units(hv: Hv, tmp_path: Path) -> None:
    hv("install-units", "--root", str(tmp_path), "--hv", "/bin/true")
    files = [str(tmp_path / "etc/systemd/system" / name) for name in UNITS]
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False, timeout=300
    )
    assert [line for line in ended.stderr.splitlines() if "hvcore" in line] == []
