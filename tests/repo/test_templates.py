"""Projects from the templates pass the type checker against this hvcore. tests/scaffold builds and runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from hvcore import new_driver, new_extension

TOP: Final = Path(__file__).resolve().parents[2]


@pytest.mark.slow  # mypy; tests/scaffold does the same from wheels
def test_what_the_templates_make_type_checks(tmp_path: Path) -> None:
    new_driver(tmp_path / "driver", name="my-own")
    new_extension(tmp_path / "extension", driver="fake", name="other")
    sources = [str(tmp_path / made / "src") for made in ("driver", "extension")]
    mypy = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(TOP / "pyproject.toml"),  # and its cache, which has this hvcore from the type check before the tests
    ]
    done = subprocess.run([*mypy, *sources], cwd=TOP, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
