"""The pages of the conformance kit: every check with its reason, and the reports of the drivers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, Final

from generator.words import DRIVERS, TEXT, TOP, table
from hvcore.testing import CHECKS, Check

__all__ = ["REPORTS", "checks_page", "matrix_page", "report_of"]

REPORTS: Final = "docs/reports"
_NOT_YET: Final = {"outcome": "not yet", "reason": ""}  # a check that is newer than the report
_SIGNS: Final = {"passed": "yes", "failed": "**no**", "skipped": "-", "excused": "excused", "not yet": "not yet"}


def checks_page() -> str:
    """All checks by area, each with level, tier, meaning and reason."""
    parts = ["# Conformance checks", TEXT["checks"].strip()]
    for area, checks in groupby(CHECKS, key=lambda check: check.area):
        parts += [f"## {area.capitalize()}", *map(_section, checks)]
    return "\n\n".join(parts)


def _section(check: Check) -> str:
    return f"### `{check.name}`\n\n*{check.level}, {check.tier}.* {check.what}\n\nWhy: {check.why}"


def report_of(driver: str) -> Mapping[str, Any]:
    """The committed report of a driver, as ``hv conformance DRIVER --report`` wrote it."""
    found: Mapping[str, Any] = json.loads((TOP / REPORTS / f"{driver}.json").read_text(encoding="utf-8"))
    return found


def matrix_page() -> str:
    """A table of abilities, one of all checks, and the reason of each skipped check, for every driver."""
    reports = {driver: report_of(driver) for driver in DRIVERS}
    parts = [
        "# Support matrix",
        TEXT["matrix"].strip(),
        "## Runs",
        table(("driver", "distribution", "with", "passed", "failed", "skipped"), _runs(reports)),
        "## Abilities",
        table(("ability", *DRIVERS), _abilities(reports)),
        "## Checks",
        table(("check", "level", *DRIVERS), _rows(reports)),
        "## Skipped checks",
    ]
    for driver, report in reports.items():
        reasons = [f"- `{row['name']}`: {row['reason']}" for row in report["checks"] if row["outcome"] == "skipped"]
        parts += [f"### {driver}", "\n".join(reasons) or "None."]
    return "\n\n".join(parts)


def _runs(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for driver, report in reports.items():
        versions, counts = report["versions"], report["counts"]
        programs = [f"{name} {version}" for name, version in versions["programs"].items()]
        used = [
            f"hvcore {versions['hvcore']}",
            f"Python {versions['python']}",
            f"Linux {versions['kernel']}",
            *programs,
        ]
        numbers = (str(counts[outcome]) for outcome in ("passed", "failed", "skipped"))
        yield (driver, f"{versions['distribution']} {versions['version']}", ", ".join(used), *numbers)


def _abilities(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for ability in sorted({name for report in reports.values() for name in report["capabilities"]}):
        yield (ability, *("yes" if ability in reports[driver]["capabilities"] else "no" for driver in DRIVERS))


def _rows(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    by_driver = {driver: {row["name"]: row for row in report["checks"]} for driver, report in reports.items()}
    for check in CHECKS:
        cells = (_SIGNS[_outcome(by_driver[driver].get(check.name, _NOT_YET))] for driver in DRIVERS)
        yield (f"[`{check.name}`](conformance-checks.md#{check.name})", str(check.level), *cells)


def _outcome(row: Mapping[str, Any]) -> str:
    excused = row["outcome"] == "skipped" and str(row["reason"]).startswith("excused: ")
    return "excused" if excused else str(row["outcome"])
