"""``hv new-driver`` and ``hv new-extension``, as typed in a shell."""

from __future__ import annotations

import json
from pathlib import Path

from fixture_types import Hv


def test_a_driver_is_made_and_the_next_step_is_shown(hv: Hv, tmp_path: Path) -> None:
    found = hv("new-driver", str(tmp_path / "hv-own"))
    assert found.exit_code == 0
    assert "  src/hv_own/plugin.py\n" in found.stdout
    assert found.stdout.endswith(f"next: cd {tmp_path}/hv-own && pip install -e '.[test]' && pytest\n")


def test_the_files_as_json(hv: Hv, tmp_path: Path) -> None:
    found = json.loads(hv("new-extension", str(tmp_path / "x"), "--for", "fake", "--name", "own", "--json").stdout)
    assert found["directory"] == str(tmp_path / "x")
    assert "src/hv_own/plugin.py" in found["files"]


def test_a_second_time_is_refused(hv: Hv, tmp_path: Path) -> None:
    assert hv("new-driver", str(tmp_path / "own")).exit_code == 0
    again = hv("new-driver", str(tmp_path / "own"))
    assert again.exit_code == 2
    assert "is not empty" in again.stderr
    assert hv("new-extension", str(tmp_path / "own")).exit_code == 2
