"""Every distribution builds cleanly from its own source archive, with complete metadata."""

from __future__ import annotations

import ast
import configparser
import email.message
import email.parser
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("build", reason="distributions are built with hvcore[dev]")
pytestmark = pytest.mark.heavy
TOP: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = {
    tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]: path.parent
    for path in (TOP / "pyproject.toml", *sorted(TOP.glob("plugins/*/pyproject.toml")))
}
GUESTS: Final = {path.parent.name: path.parent for path in sorted(TOP.glob("examples/*/pyproject.toml"))}

# A source archive, and the wheel from that archive, for each pair of a folder and a place for the archives.
_BUILD: Final = """
import os, subprocess, sys
from hatchling.build import build_sdist, build_wheel
for folder, out in zip(sys.argv[1::2], sys.argv[2::2]):
    os.makedirs(out)
    os.chdir(folder)
    name = build_sdist(out)
    # Python 3.11.2 of Debian 12 has no filter for its own extractall.
    subprocess.run(["tar", "-xf", os.path.join(out, name), "-C", out], check=True)
    os.chdir(os.path.join(out, name.removesuffix(".tar.gz")))
    build_wheel(out)
"""


@dataclass(frozen=True)
class Built:
    """A distribution's two archives, opened: names of files, and texts by name."""

    folder: Path
    source: dict[str, tarfile.TarInfo]
    wheel: dict[str, bytes]

    @property
    def metadata(self) -> email.message.Message:
        return email.parser.Parser().parsestr(self.info("METADATA"))

    @property
    def project(self) -> dict[str, Any]:
        text = (self.folder / "pyproject.toml").read_text(encoding="utf-8")
        project: dict[str, Any] = tomllib.loads(text)["project"]
        return project

    def info(self, name: str) -> str:
        return next(data.decode() for path, data in self.wheel.items() if path.endswith(f".dist-info/{name}"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    """All distributions, built side by side: ours as a maintainer does, the examples by the same back end in one process."""
    out = tmp_path_factory.mktemp("built")
    runs = {}
    for name, folder in FOLDERS.items():
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out / name), str(folder)]
        runs[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    places = [word for name, folder in GUESTS.items() for word in (str(folder), str(out / name))]
    command = [sys.executable, "-c", _BUILD, *places]
    runs["the examples"] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for name, run in runs.items():
        said, _ = run.communicate(timeout=300)
        assert run.returncode == 0, f"{name}: {said}"
        assert "warning" not in said.lower(), f"{name}: {said}"
    return {name: opened(out / name, folder) for name, folder in {**FOLDERS, **GUESTS}.items()}


def opened(archives: Path, folder: Path) -> Built:
    with tarfile.open(next(archives.glob("*.tar.gz"))) as archive:
        source = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    with zipfile.ZipFile(next(archives.glob("*.whl"))) as wheel:
        return Built(folder, source, {name: wheel.read(name) for name in wheel.namelist()})


def test_every_distribution_is_here() -> None:
    assert set(FOLDERS) == {"hvcore", "hv-kvm", "hv-chroot", "hv-fake"}
    assert "hv-inventory" in GUESTS


@pytest.mark.parametrize("name", [*FOLDERS, *GUESTS])
def test_the_source_archive_is_whole_and_has_nothing_of_this_machine(name: str, built: dict[str, Built]) -> None:
    source = built[name].source
    wanted = {"pyproject.toml", "PKG-INFO"} | ({"LICENSE", "README.md"} if name in FOLDERS else set())
    assert wanted - set(source) == set()
    assert [path for path, member in source.items() if not member.isfile() and not member.isdir()] == []
    assert [path for path in source if {"__pycache__", ".cache", ".venv", "dist"} & set(Path(path).parts)] == []
    assert name not in FOLDERS or any(path.startswith("tests/") for path in source)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_wheel_says_what_people_and_indexes_want_to_know(name: str, built: dict[str, Built]) -> None:
    classifiers = pytest.importorskip("trove_classifiers").classifiers
    metadata, project = built[name].metadata, built[name].project
    assert metadata["Name"] == name
    assert metadata["Summary"] == project["description"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Keywords"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert f"# {name}" in metadata.get_payload()
    given = metadata.get_all("Classifier") or []
    assert [line for line in given if line not in classifiers] == []
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(given)


@pytest.mark.parametrize("name", [*FOLDERS, *GUESTS])
def test_the_wheel_holds_every_file_of_the_package(name: str, built: dict[str, Built]) -> None:
    folder = built[name].folder
    home = folder if name == "hvcore" else folder / "src"
    packages = [home / "hvcore"] if name == "hvcore" else [path for path in home.iterdir() if path.is_dir()]
    files = {path.relative_to(home).as_posix() for package in packages for path in package.rglob("*") if path.is_file()}
    wanted = {path for path in files if "__pycache__" not in path}
    wanted |= {"hv_command.py"} if name == "hvcore" else set()
    shipped = {path for path in built[name].wheel if ".dist-info/" not in path and ".data/" not in path}
    assert shipped == wanted
    assert name not in FOLDERS or any(path.endswith("/py.typed") for path in shipped)


def test_the_manual_page_comes_with_the_command(built: dict[str, Built]) -> None:
    wheel = built["hvcore"].wheel
    assert [path.partition(".data/")[2] for path in wheel if ".data/" in path] == ["data/share/man/man1/hv.1"]


@pytest.mark.parametrize("name", [*FOLDERS, *GUESTS])
def test_every_entry_point_leads_to_something_in_the_wheel(name: str, built: dict[str, Built]) -> None:
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # as importlib.metadata reads it
    parser.read_string(built[name].info("entry_points.txt"))
    found = {f"{group}: {point}": target for group in parser.sections() for point, target in parser[group].items()}
    assert found
    assert [point for point, target in found.items() if not leads_somewhere(target, built[name].wheel)] == []


def leads_somewhere(target: str, wheel: dict[str, bytes]) -> bool:
    module, _, attribute = target.partition(":")
    path = module.replace(".", "/")
    text = wheel.get(f"{path}.py") or wheel.get(f"{path}/__init__.py")
    if text is None:
        return False
    names = {getattr(node, "name", None) for node in ast.walk(ast.parse(text))}
    names |= {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    return not attribute or attribute in names


def test_an_entry_point_that_leads_nowhere_is_found() -> None:
    wheel = {"a/__init__.py": b"", "a/b.py": b"class C: ...\n"}
    targets = ["a", "a.b", "a.b:C", "a.b:D", "a.c"]
    assert [leads_somewhere(target, wheel) for target in targets] == [True, True, True, False, False]


@pytest.mark.parametrize("name", [name for name in [*FOLDERS, *GUESTS] if name != "hvcore"])
def test_a_plugin_requires_this_core(name: str, built: dict[str, Built]) -> None:
    requirements = pytest.importorskip("packaging.requirements")
    wanted = [requirements.Requirement(line) for line in built[name].metadata.get_all("Requires-Dist") or []]
    core = next(one for one in wanted if one.name == "hvcore")
    assert core.specifier.contains(built["hvcore"].metadata["Version"])


def test_each_version_is_written_in_one_place(built: dict[str, Built]) -> None:
    assert built["hvcore"].project["dynamic"] == ["version"]
    namespace: dict[str, str] = {}
    exec((TOP / "hvcore/_version.py").read_text(encoding="utf-8"), namespace)
    assert built["hvcore"].metadata["Version"] == namespace["__version__"]
    for name in FOLDERS.keys() - {"hvcore"}:
        version = built[name].project["version"]
        texts = [path.read_text(encoding="utf-8") for path in built[name].folder.glob("src/**/*.py")]
        assert [text for text in texts if f'"{version}"' in text] == [], name
