"""What the tests of changes of a running instance share."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixture_types import Hv

FILE = 'name = "web1"\ndriver = "fake"\n[[disks]]\npath = "/srv/a.img"\n'


@pytest.fixture
def web1(hv: Hv, tmp_path: Path) -> Path:
    file = tmp_path / "web1.toml"
    file.write_text(FILE)
    assert hv("start", str(file)).exit_code == 0
    return file
