"""Contents that the repository must not have, and contents that it must have."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]

# Put together from pieces, or this file would be its own first finding.
REGISTRY_HOSTS: Final = tuple(
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("deb", "debian", "org"),
        ("security", "debian", "org"),
        ("snapshot", "debian", "org"),
        ("archive", "ubuntu", "com"),
        ("registry", "npmjs", "org"),
        ("pkg", "dev/"),
        ("ghcr", "io"),
        ("docker", "io"),
    )
)
MACHINE_PATHS: Final = tuple(re.compile(rf"(?<![\w.-])/{name}/") for name in ("wo" + "rk", "fa" + "rm"))
PACKAGE_URL: Final = re.compile(r"https?://\S+\.(?:whl|deb|tgz)\b|(?:index-url|registry)\s*[=\s]\s*https?:")
LOCK_FILES: Final = {
    "Pipfile.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "pdm.lock",
    "poetry.lock",
    "pylock.toml",
    "uv.lock",
    "yarn.lock",
}
FRAGMENT: Final = re.compile(
    r"changelog\.d/((hv-(kvm|chroot|fake)/)?(\d+|\+[a-z0-9-]+)\.(added|changed|deprecated|removed|fixed|security)|README)\.md"
)
PROJECTS: Final = {
    "pyproject.toml": "hvcore",
    "plugins/hv-kvm/pyproject.toml": "hv-kvm",
    "plugins/hv-chroot/pyproject.toml": "hv-chroot",
    "plugins/hv-fake/pyproject.toml": "hv-fake",
}
TREES: Final = ("hvcore", "plugins", "tests", "docs", "demo", "benchmarks", "changelog.d", ".ci")
PATH_IN_TEXT: Final = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, TREES))})/[\w./<>*-]*[\w>*/]")
FILE_IN_TICKS: Final = re.compile(r"`([\w.-]+\.(?:py|md|toml|ini|sh|yaml))`")


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """Every file that git tracks or would track. Without a clone (an unpacked archive), every file except caches."""
    if (TOP / ".git").exists():
        command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True).stdout.split("\0")
    else:
        caches = {".venv", ".cache", ".tox", "__pycache__"}
        paths = (path.relative_to(TOP) for path in TOP.rglob("*"))
        names = [path.as_posix() for path in paths if not caches & set(path.parts)]
    return sorted(name for name in names if name and (TOP / name).is_file())


@pytest.fixture(scope="module")
def texts(tracked: list[str]) -> dict[str, str]:
    """Path to text. A byte that is not UTF-8 becomes a replacement character, so that binary files are searched too."""
    return {name: (TOP / name).read_bytes().decode("utf-8", "replace") for name in tracked}


def findings(text: str) -> list[str]:
    """The registry hosts, package addresses and machine paths in a text."""
    patterns = (*MACHINE_PATHS, PACKAGE_URL)
    return [host for host in REGISTRY_HOSTS if host in text] + [
        found[0] for pattern in patterns for found in pattern.finditer(text)
    ]


def test_no_file_names_a_registry_or_a_path_of_somebodys_machine(texts: dict[str, str]) -> None:
    found = {name: findings(text) for name, text in texts.items()}
    assert not {name: what for name, what in found.items() if what}


@pytest.mark.parametrize(
    "text",
    [
        "see https://" + REGISTRY_HOSTS[0] + "/simple",
        "cd /wo" + "rk/main",
        "get https://example.com/a-1.0." + "whl",
        "index-url " + "= https://example.com/simple",
    ],
)
def test_a_planted_registry_or_path_is_found(text: str) -> None:
    assert findings(text)


def test_there_is_no_lock_file(tracked: list[str]) -> None:
    assert not [name for name in tracked if Path(name).name in LOCK_FILES]


def test_every_distribution_has_the_licence_and_the_same_basics() -> None:
    licence = (TOP / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence
    core = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    basics = ("license", "license-files", "authors", "requires-python", "classifiers")
    for path, name in PROJECTS.items():
        project = tomllib.loads((TOP / path).read_text(encoding="utf-8"))["project"]
        assert project["name"] == name
        assert {key: project[key] for key in basics} == {key: core[key] for key in basics}
        own = (TOP / path).with_name("LICENSE")
        assert own.read_text(encoding="utf-8") == licence
        assert not own.is_symlink(), "an archive of the plugin would have a link that leads out of it"
        assert (TOP / path).with_name("README.md").is_file()


def test_every_package_is_marked_as_typed() -> None:
    assert [package for package in packages() if not (package / "py.typed").is_file()] == []


def packages() -> list[Path]:
    return [TOP / "hvcore", *sorted(path for path in TOP.glob("plugins/*/src/*") if path.is_dir())]


def test_architecture_names_only_paths_that_exist(tracked: list[str]) -> None:
    text = (TOP / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = {found.rstrip(".") for found in PATH_IN_TEXT.findall(text)}
    assert named, "ARCHITECTURE.md names no path at all"
    patterns = {name: re.sub(r"<[^>]*>", "*", name).rstrip("/") for name in named}
    missing = [name for name, pattern in patterns.items() if not list(TOP.glob(pattern))]
    base_names = {Path(name).name for name in tracked}
    missing += [name for name in FILE_IN_TICKS.findall(text) if name not in base_names]
    assert missing == []


def test_documents_keep_their_length() -> None:
    lengths = {"CONTRIBUTING.md": 150, "ARCHITECTURE.md": 200}
    actual = {name: len((TOP / name).read_text(encoding="utf-8").splitlines()) for name in lengths}
    assert {name: count for name, count in actual.items() if count > lengths[name]} == {}


def test_fragments_are_named_so_that_the_changelog_finds_them(tracked: list[str]) -> None:
    assert [name for name in tracked if name.startswith("changelog.d/") and not FRAGMENT.fullmatch(name)] == []


def test_readme_and_ci_use_the_two_commands() -> None:
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    assert "./dev demo" in readme
    assert "./dev test" in readme
    assert "./dev test" in (TOP / ".ci/run").read_text(encoding="utf-8")
