"""Distributions made up on the spot: a module and its metadata in a folder of their own on sys.path."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest


class Install(Protocol):
    def __call__(
        self,
        name: str,
        entry_points: str,
        source: str = "",
        *,
        requires: str = "hvcore>=0.1,<0.2",
        version: str = "1.0",
    ) -> Path: ...


DRIVER = """
import hvcore.plugin as hv
from hv_fake.plugin import FakeDriver

class Driver(FakeDriver):
    name = {name!r}
"""


@pytest.fixture
def driver_source() -> str:
    """A driver that works, to be formatted with its ``name``."""
    return DRIVER


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """``install("hv-x", "[hvcore.drivers]...", source)``: module ``hv_x`` as distribution ``hv-x``; its file."""
    before = set(sys.modules)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made: list[str] = []

    def do(
        name: str, entry_points: str, source: str = "", *, requires: str = "hvcore>=0.1,<0.2", version: str = "1.0"
    ) -> Path:
        module = name.replace("-", "_")
        folder = tmp_path / f"site-{name}"
        info = folder / f"{module}-{version}.dist-info"
        info.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: {requires}\n"
        (info / "METADATA").write_text(metadata)
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        path = folder / f"{module}.py"
        path.write_text(textwrap.dedent(source))
        monkeypatch.syspath_prepend(str(folder))
        made.append(module)
        return path

    yield do
    for module in set(sys.modules) - before:
        if module in made:
            del sys.modules[module]
