"""Functions that the benchmarks time separately still exist under their names."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
NAMED: Final = sorted(
    {
        place
        for path in (TOP / "benchmarks").glob("*.py")
        for place in re.findall(r'"(hv\w+(?:\.\w+)*:\w+(?:\.\w+)*)"', path.read_text(encoding="utf-8"))
    }
)


def test_files_are_found() -> None:
    assert len(NAMED) > 10


@pytest.mark.parametrize("place", NAMED)
def test_everything_that_benchmarks_time_exists(place: str) -> None:
    module, _, names = place.partition(":")
    found: object = importlib.import_module(module)
    for name in names.split("."):
        assert hasattr(found, name), f"{place}: nothing of that name; benchmarks could not time it"
        found = getattr(found, name)
