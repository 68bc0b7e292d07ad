"""Distributions of third parties, installed for processes that are started from here."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from distributions import installed
from fixture_types import Run


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for packages."""
    return tmp_path / "site"


@pytest.fixture
def example(site: Path) -> Callable[[Path], None]:
    """Installs an example there: its source, and the metadata that an installer would write."""

    def do(folder: Path) -> None:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        install(site, project["name"], project["entry-points"], project["dependencies"])
        module = project["name"].replace("-", "_")
        (site / module).symlink_to(folder / "src" / module)

    return do


def install(site: Path, name: str, groups: dict[str, dict[str, str]], requires: list[str]) -> None:
    lines = [line for group, points in groups.items() for line in (f"[{group}]", *map(" = ".join, points.items()))]
    installed(site, name, "\n".join(lines), requires=requires, version="0.1.0")


@pytest.fixture
def other(site: Path) -> Callable[[str], None]:
    """Installs one more extension of kvm, ``kvm.other`` of hv-other, with this source."""

    def do(source: str) -> None:
        install(site, "hv-other", {"hvcore.extensions": {"kvm.other": "hv_other"}}, ["hvcore>=0.1,<0.2"])
        (site / "hv_other.py").write_text(f"import hvcore.plugin as hv\nfrom hv_kvm.plugin import Opt\n\n{source}")

    return do


@pytest.fixture
def hv(site: Path, tmp_path: Path) -> Run:
    """``hv`` with these arguments in a process that has what is in ``site``."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
        own = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-c", "from hvcore.cli import main; main()", "--run-dir", str(tmp_path / "run")]
        command += ["--config-dir", str(tmp_path / "etc"), *args]
        return subprocess.run(
            command, env={**os.environ, **own}, check=False, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """An instance file of driver kvm with these parameters."""

    def write(params: str) -> str:
        path = tmp_path / "web1.toml"
        path.write_text(f'name = "web1"\ndriver = "kvm"\n[params]\nkvm_flag = "disabled"\n{params}\n')
        return str(path)

    return write
