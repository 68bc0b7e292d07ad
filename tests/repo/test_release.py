"""A release has one version, one page for its users, and files that later releases are compared with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest
from release import left, main, newest_record

import hvcore
from hvcore.model.record import RECORD_VERSION, parse_record

TOP: Final = Path(__file__).resolve().parents[2]
RELEASED: Final = Path(__file__).with_name("released")
PLUGINS: Final = sorted(TOP.glob("plugins/*/pyproject.toml"))
CHANGELOG: Final = (TOP / "CHANGELOG.md").read_text(encoding="utf-8")
SECTION: Final = re.compile(r"^## hvcore (\S+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
LINES_OF_A_PAGE: Final = 66


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.parent.name)
def test_all_distributions_have_the_version_of_hvcore(path: Path) -> None:
    assert tomllib.loads(path.read_text(encoding="utf-8"))["project"]["version"] == hvcore.__version__


def test_the_changelog_begins_with_this_version() -> None:
    assert SECTION.findall(CHANGELOG)[0][0] == hvcore.__version__


@pytest.mark.parametrize(("version", "text"), SECTION.findall(CHANGELOG))
def test_each_release_has_one_page(version: str, text: str) -> None:
    assert text.count("\n") < LINES_OF_A_PAGE, version


@pytest.mark.parametrize("version", [version for version, _ in SECTION.findall(CHANGELOG)])
def test_each_release_left_what_later_ones_are_compared_with(version: str) -> None:
    drivers = {path.name.removesuffix(f"-{version}.json") for path in RELEASED.glob(f"*-{version}.json")}
    assert drivers == {path.parent.name.removeprefix("hv-") for path in PLUGINS}
    assert (RELEASED / "records" / f"{version}.json").is_file()


@pytest.mark.parametrize("path", sorted(RELEASED.glob("records/*.json")), ids=lambda path: path.stem)
def test_the_record_of_each_release_is_among_those_that_are_read_for_ever(path: Path) -> None:
    data = path.read_bytes()
    assert data in [kept.read_bytes() for kept in (TOP / "tests/core/data").glob("record-v*.json")]
    assert parse_record(data, "web1").name == "web1"


def test_a_release_writes_the_schemas_and_a_record(tmp_path: Path) -> None:
    for plugin in PLUGINS:
        place = tmp_path / "plugins" / plugin.parent.name / "pyproject.toml"
        place.parent.mkdir(parents=True)
        place.touch()
    data = tmp_path / "tests/core/data"
    data.mkdir(parents=True)
    (data / "record-v1.json").write_text("{}")
    assert main(tmp_path, tmp_path) == 0
    written = sorted(path.name for path in tmp_path.rglob("*.json"))
    drivers = (plugin.parent.name.removeprefix("hv-") for plugin in PLUGINS)
    assert written == sorted(["record-v1.json", "0.1.0.json", *(f"{driver}-0.1.0.json" for driver in drivers)])
    assert '"$schema"' in (tmp_path / "kvm-0.1.0.json").read_text()


def test_a_release_with_fragments_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("README.md", "7.added.md", "hv-kvm/+words.fixed.md"):
        path = tmp_path / "changelog.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert left(tmp_path) == ["changelog.d/7.added.md", "changelog.d/hv-kvm/+words.fixed.md"]
    assert main(tmp_path, tmp_path) == 1
    assert "changelog.d/7.added.md, changelog.d/hv-kvm/+words.fixed.md" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("versions", [(1, 2), (9, 10), (6,)])
def test_the_newest_record_is_found_by_its_number(versions: tuple[int, ...], tmp_path: Path) -> None:
    for version in versions:
        (tmp_path / f"record-v{version}.json").touch()
    assert newest_record(tmp_path).stem == f"record-v{max(versions)}"


def test_the_changelog_names_the_version_of_the_records() -> None:
    fragments = [path.read_text(encoding="utf-8") for path in (TOP / "changelog.d").rglob("*.changed.md")]
    newest = SECTION.findall(CHANGELOG)[0][1]
    assert any(f"(version {RECORD_VERSION})" in text for text in (newest, *fragments))


def test_the_page_about_installation_has_this_version() -> None:
    page = (TOP / "docs/how-to/install.md").read_text(encoding="utf-8")
    named = re.findall(r"\bhv(?:core|[-_](?:kvm|chroot|fake))[-_](\d[\w.]*?)(?=-py3|_all)", page)
    assert len(named) > 5
    assert {*named} == {hvcore.__version__}


BY_NAME: Final = re.compile(r"pip(?:x)? install [^\n]*?(?<![\w./-])'?(?:hvcore|hv-(?:kvm|chroot|fake))\b(?!-\d)")
INSTRUCTIONS: Final = ["README.md", *(path.relative_to(TOP).as_posix() for path in TOP.glob("plugins/*/README.md"))]


@pytest.mark.parametrize("name", [*INSTRUCTIONS, "docs/how-to/install.md", "docs/tutorial/write-a-driver.md"])
def test_no_page_installs_by_name_from_an_index(name: str) -> None:
    """hvcore is not on a package index, so any user of one may take the name, and their code would run as root."""
    lines = (TOP / name).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if BY_NAME.search(line) and "--no-index" not in line] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pip install hvcore[cli] hv-kvm", True),
        ("/opt/bin/pip install 'hvcore[cli]'", True),
        ("pip install --upgrade hv-kvm", True),
        ("pipx install hvcore", True),
        ("pip install './dist/hvcore-0.1.0-py3-none-any.whl[cli]'", False),
        ("pipx inject hvcore ./dist/hv_kvm-0.1.0-py3-none-any.whl", False),
    ],
)
def test_an_installation_by_name_is_found(*, line: str, found: bool) -> None:
    assert bool(BY_NAME.search(line)) is found
