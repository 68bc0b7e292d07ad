"""What ``hv new-driver`` and ``hv new-extension`` make, and the examples, are built, installed and pass their own tests.

They are not changed, and hvcore comes from its wheel: a file that is missing in the wheel is missing here. No network is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
GENERATED: Final = ("hv-own", "hv-retire")
EXAMPLES: Final = ("hv-licence", "hv-process", "hv-vsock", "hv-watchdog")
KERNEL: Final = TOP / ".cache/kernel/vmlinuz"  # the one that the watchdog's tests boot
# Of the conformance checks those that say most for their time; all of them are below, and slow.
FEW: Final = "not TestConformance or load_ or life_full_cycle or capability_"
pytestmark = pytest.mark.live
SOME: Final = pytest.mark.parametrize(
    "name",
    [
        *GENERATED,
        *(pytest.param(name, marks=pytest.mark.slow) for name in EXAMPLES),  # tests/extension has the examples
    ],
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site directory with hvcore, hv-fake and hv-kvm from wheels that were built now."""
    folder = tmp_path_factory.mktemp("wheels")
    pip("wheel", "--wheel-dir", str(folder), str(TOP), str(TOP / "plugins/hv-fake"), str(TOP / "plugins/hv-kvm"))
    site = tmp_path_factory.mktemp("site")
    pip("install", "--target", str(site), *map(str, sorted(folder.glob("*.whl"))))
    return site


def pip(*args: str) -> None:
    offline = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    done = subprocess.run(
        [sys.executable, "-m", "pip", args[0], *offline, *args[1:]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def made(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a distribution that is installed: made by the installed ``hv``, or a copy of an example."""
    top = tmp_path_factory.mktemp("made")
    arguments = {"hv-own": ["new-driver"], "hv-retire": ["new-extension", "--for", "fake"]}
    for name, command in arguments.items():
        hv = [sys.executable, "-P", "-c", "from hvcore.cli import main; main()"]
        run = subprocess.run(
            [*hv, *command, str(top / name)], env=environment(site), capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
    for name in EXAMPLES:
        shutil.copytree(TOP / "examples" / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("install", "--target", str(site), *(str(top / name) for name in (*GENERATED, *EXAMPLES)))
    return lambda name: top / name


def environment(site: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HVCORE", "PYTEST", "COV"))}
    own = {"PYTHONPATH": str(site), "HVCORE_STRICT": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **own, **({"KERNEL": str(KERNEL)} if KERNEL.exists() else {})}


def run_in(folder: Path, site: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=folder,
        env=environment(site),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_templates_and_types_are_in_the_wheel(site: Path) -> None:
    for kind in ("driver", "extension"):
        there = sorted(path.relative_to(TOP) for path in (TOP / f"hvcore/templates/{kind}").rglob("*.in"))
        assert there
        assert [path for path in there if not (site / path).is_file()] == []
    assert (site / "hvcore/py.typed").is_file()


@SOME
def test_its_types_hold(made: Callable[[str], Path], site: Path, name: str) -> None:
    assert "Success" in run_in(made(name), site, "mypy", "--cache-dir", str(site.parent / "mypy"))


@SOME
def test_its_own_tests_pass(made: Callable[[str], Path], site: Path, name: str) -> None:
    said = run_in(made(name), site, "pytest", "-q", "-p", "no:cacheprovider", "-k", FEW)
    assert " passed" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", [*GENERATED, *EXAMPLES])
def test_it_conforms(made: Callable[[str], Path], site: Path, name: str) -> None:
    assert " passed" in run_in(made(name), site, "pytest", "-q", "-p", "no:cacheprovider", "-k", "TestConformance")


@pytest.mark.parametrize("name", GENERATED)
def test_it_is_clean_and_formatted(made: Callable[[str], Path], site: Path, name: str) -> None:
    run_in(made(name), site, "ruff", "check", "--no-cache", "--select", "E,F,W,B,UP,SIM,RET", ".")
    run_in(made(name), site, "ruff", "format", "--no-cache", "--check", ".")


@SOME
def test_its_wheel_has_the_package_and_its_types(made: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    pip("wheel", "--wheel-dir", str(tmp_path), str(made(name)))
    (wheel,) = tmp_path.glob("*.whl")
    module = name.replace("-", "_")
    assert {f"{module}/plugin.py", f"{module}/py.typed"} < set(zipfile.ZipFile(wheel).namelist())
