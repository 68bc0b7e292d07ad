"""Prove every driver on this node and keep the reports that the support matrix is made from: docs/reports/DRIVER.json.

Run as root, with QEMU and busybox installed, then ``python docs/generate.py``. What differs from run to run and says
nothing about a driver (seconds, the build of the kernel) is left out of what is kept.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from generator.checks import REPORTS
from generator.words import DRIVERS, TOP
from hvcore.testing import find_subject, run

__all__ = ["main"]


def _kept(report: dict[str, Any]) -> dict[str, Any]:
    kernel = re.match(r"[0-9.]+", report["versions"]["kernel"])
    versions = {**report["versions"], "kernel": kernel[0].rstrip(".") if kernel else "unknown"}
    rows = [{key: row[key] for key in row if key not in {"seconds", "detail"}} for row in report["checks"]]
    return {
        **{key: report[key] for key in report if key not in {"seconds", "began"}},
        "versions": versions,
        "checks": rows,
    }


def main() -> int:
    """Write the reports; 1 if a driver does not conform."""
    conform = True
    for driver in DRIVERS:
        report = run(find_subject(driver))
        conform = conform and report.conforms
        path = TOP / REPORTS / f"{driver}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(_kept(report.to_json()), indent=1) + "\n", encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(TOP)}: {report.counts}\n")
    return 0 if conform else 1


if __name__ == "__main__":
    sys.exit(main())
