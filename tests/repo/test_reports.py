"""The committed conformance reports, the source of the support matrix, cover exactly the existing checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hvcore
from hvcore.testing import CHECKS

TOP = Path(__file__).resolve().parents[2]
REPORTS = sorted((TOP / "docs/reports").glob("*.json"))
AGAIN = "run as root: .venv/bin/python docs/record_conformance.py && .venv/bin/python docs/generate.py"


@pytest.fixture(params=REPORTS, ids=lambda path: path.stem)
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return found


def test_each_driver_of_ours_has_a_report() -> None:
    assert [path.stem for path in REPORTS] == ["chroot", "fake", "kvm"]


def test_a_report_has_every_check_and_no_other(report: dict[str, Any]) -> None:
    assert [row["name"] for row in report["checks"]] == [check.name for check in CHECKS], AGAIN


def test_a_report_says_of_each_check_what_it_is_now(report: dict[str, Any]) -> None:
    kept = {row["name"]: (row["area"], row["level"], row["tier"]) for row in report["checks"]}
    assert kept == {check.name: (check.area, str(check.level), str(check.tier)) for check in CHECKS}, AGAIN


def test_a_report_is_of_a_driver_that_conforms_with_the_abilities_that_it_has(
    report: dict[str, Any], tmp_path: Path
) -> None:
    assert report["conforms"]
    assert report["capabilities"] == list(hvcore.Node(tmp_path).driver(report["driver"]).capabilities), AGAIN
