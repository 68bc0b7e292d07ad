"""New distributions from a template: names are checked, problems are reported together, and nothing is overwritten."""

from __future__ import annotations

import ast
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import hvcore
from hvcore import ParamsError, new_driver, new_extension


def made(kind: str, directory: Path, **more: Any) -> tuple[Path, ...]:
    return new_driver(directory, **more) if kind == "driver" else new_extension(directory, driver="fake", **more)


@pytest.mark.parametrize("kind", ["driver", "extension"])
def test_every_file_is_complete_without_a_placeholder(tmp_path: Path, kind: str) -> None:
    written = made(kind, tmp_path / "hv-my-own")
    assert sorted(path for path in (tmp_path / "hv-my-own").rglob("*") if path.is_file()) == sorted(written)
    names = {path.relative_to(tmp_path / "hv-my-own").as_posix() for path in written}
    assert {"pyproject.toml", "README.md", ".gitignore", ".github/workflows/test.yml"} < names
    assert {"src/hv_my_own/plugin.py", "src/hv_my_own/py.typed", "tests/test_conformance.py"} < names
    for path in written:
        text = path.read_text(encoding="utf-8")
        assert "MODULE" not in text
        assert "{{" not in text.replace("${{ matrix.hvcore }}", "")
        if path.suffix == ".py":
            ast.parse(text)
    tomllib.loads((tmp_path / "hv-my-own/pyproject.toml").read_text(encoding="utf-8"))


def project(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return found


def test_the_entry_points_name_existing_objects(tmp_path: Path) -> None:
    new_driver(tmp_path / "x", name="my-own")
    assert project(tmp_path / "x")["name"] == "hv-my-own"
    points = project(tmp_path / "x")["entry-points"]
    assert points["hvcore.drivers"] == {"my-own": "hv_my_own.plugin:MyOwnDriver"}
    assert "class MyOwnDriver" in (tmp_path / "x/src/hv_my_own/plugin.py").read_text(encoding="utf-8")
    new_extension(tmp_path / "y", driver="fake", name="my-own")
    assert project(tmp_path / "y")["entry-points"]["hvcore.extensions"] == {"fake.my-own": "hv_my_own.plugin"}
    assert project(tmp_path / "y")["dependencies"][1] == "hv-fake"


def test_the_range_of_hvcore_contains_the_installed_version(tmp_path: Path) -> None:
    new_driver(tmp_path / "x", name="own")
    (line,) = project(tmp_path / "x")["dependencies"]
    assert line == "hvcore>=0.1,<0.2"
    assert hvcore.__version__.startswith("0.1.")


BAD_NAMES = ["", "-x", "X", "a b", "a--b", "a-", "1a", "a.b", "a/b", "../a", 'a"b', "a\n", "a{{name}}", "é", "x" * 33]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("kind", ["driver", "extension"])
def test_an_invalid_name_is_refused_and_nothing_is_written(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(ParamsError, match="name: is not a name, got"):
        made(kind, tmp_path / "x", name=name)
    assert not (tmp_path / "x").exists()


def test_all_problems_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ParamsError) as caught:
        new_extension(tmp_path, driver="Fake!", name="class")
    assert [problem.path for problem in caught.value.problems] == ["name", "for", str(tmp_path)]
    assert os.listdir(tmp_path) == ["mine"]


@pytest.mark.parametrize("name", ["fake", "kvm"])
def test_a_name_that_is_taken_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParamsError, match=f"driver {name} is installed"):
        new_driver(tmp_path / "x", name=name)


def test_the_name_follows_from_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hv-own").mkdir()
    monkeypatch.chdir(tmp_path / "hv-own")
    new_driver(Path())
    assert project(tmp_path / "hv-own")["name"] == "hv-own"


def test_an_empty_directory_is_used_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ParamsError, match=r"cannot be used \(Not a directory\)"):
        new_driver(tmp_path / "file", name="own")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    assert new_driver(tmp_path / "link", name="own")


def test_a_directory_that_cannot_be_written_is_named() -> None:
    with pytest.raises(hvcore.NodeError, match=r"/proc/x.*: cannot be written"):
        new_driver(Path("/proc/x"), name="own")


@pytest.mark.parametrize("there", [True, False])
def test_an_interruption_at_any_moment_leaves_nothing(tmp_path: Path, there: bool) -> None:  # noqa: FBT001
    """Half a distribution looks like a whole one, and blocks the next try."""
    directory = tmp_path / "hv-own"
    if there:
        directory.mkdir()
    before = sorted(tmp_path.rglob("*"))
    opened = 0

    def interrupt(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal opened
        if event == "open" and armed and str(arguments[0]).startswith(str(tmp_path)):
            opened += 1
            if opened == 4:
                raise KeyboardInterrupt

    armed = True
    sys.addaudithook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            new_driver(directory, name="own")
    finally:
        armed = False
    assert sorted(tmp_path.rglob("*")) == before
    assert new_driver(directory, name="own")
    assert {path.name for path in tmp_path.iterdir()} == {"hv-own"}
    assert list(directory.rglob(".hv-new*")) == []
