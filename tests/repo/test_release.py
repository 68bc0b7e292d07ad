"""A release has one version, one page for its users, and files that later releases are compared with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

import hvcore
from hvcore.model.record import parse_record

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
