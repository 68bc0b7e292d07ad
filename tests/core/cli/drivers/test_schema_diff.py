"""``hv schema-diff``: two files, or a file and a driver, and an exit code that a release can depend on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Hv


@pytest.fixture
def changed(hv: Hv, tmp_path: Path) -> Callable[[Callable[[Any], None]], str]:
    """A file with the fake driver's schema, changed by a function."""

    def make(change: Callable[[Any], None]) -> str:
        schema = json.loads(hv("params", "fake", "--schema").stdout)
        change(schema["properties"])
        path = tmp_path / "old.json"
        path.write_text(json.dumps(schema))
        return str(path)

    return make


def test_a_driver_has_no_change_against_its_schema(hv: Hv, tmp_path: Path) -> None:
    for option in ("--schema", "--json"):
        path = tmp_path / f"fake{option}.json"
        path.write_text(hv("params", "fake", option).stdout)
        found = hv("schema-diff", str(path), "fake", "--expect", "none")
        assert (found.exit_code, found.stdout) == (0, "no change\n")


@pytest.mark.parametrize(("expect", "code"), [(None, 0), ("major", 0), ("minor", 1), ("none", 1)])
def test_more_than_was_expected_is_a_failure(hv: Hv, changed: Any, expect: str | None, code: int) -> None:
    old = changed(lambda properties: properties.update(gone={"type": "boolean"}))
    found = hv("schema-diff", old, "fake", *(("--expect", expect) if expect else ()))
    assert found.exit_code == code
    assert "major  gone       removed  files that set it are refused" in found.stdout
    assert found.stdout.endswith("these changes require a major release\n")


def test_the_changes_as_json(hv: Hv, changed: Any) -> None:
    found = json.loads(hv("schema-diff", changed(lambda properties: properties.pop("motd")), "fake", "--json").stdout)
    what = "files without it keep their meaning"
    assert found == {
        "bump": "minor",
        "changes": [{"key": "motd", "kind": "added", "bump": "minor", "what": what}],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not JSON"), ("[1]", "is not what hv params"), (None, "cannot be read, got No such file or directory")],
)
def test_anything_but_a_schema_is_bad_usage(hv: Hv, tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "old.json"
    if text is not None:
        path.write_text(text)
    found = hv("schema-diff", str(path), "fake")
    assert found.exit_code == 2
    assert message in found.stderr
