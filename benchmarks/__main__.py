"""``python -m benchmarks``: measure everything and print it as a table, or with ``--json`` as one document."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from benchmarks.checking import checks
from benchmarks.chroots import chroots
from benchmarks.command import commands
from benchmarks.entered import modules_entered
from benchmarks.growth import growths
from benchmarks.listing import lists
from benchmarks.measure import Report
from benchmarks.qemu import plans, probes
from benchmarks.show import lines
from benchmarks.starting import starts, stops

__all__ = ["main"]

_ALL: Final[dict[str, Callable[[int], Iterator[Report]]]] = {
    "start": starts,
    "stop": stops,
    "growth": growths,
    "modules": modules_entered,
    "list": lists,
    "check": checks,
    "plan": plans,
    "probe": probes,
    "command": commands,
    "chroot": chroots,
}


def main() -> None:
    """Run what the command line names. Ends with 0 also when a goal is missed: a figure is for people to judge."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What hvcore costs, beside the bare thing."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_ALL)}; all of them without a name")
    parser.add_argument("--repeat", type=int, default=20, metavar="N", help="samples of each (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON document, samples included")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(_ALL))
    if unknown or options.repeat < 1:
        parser.error(f"no benchmark {unknown[0]!r}" if unknown else "--repeat must be at least 1")
    reports = []
    for name in options.names or _ALL:
        print(f"measuring {name} ...", file=sys.stderr)
        reports += list(_ALL[name](options.repeat))
    if options.json:
        print(json.dumps({"machine": _machine(), "reports": [report.to_json() for report in reports]}, indent=2))
    else:
        print("; ".join(f"{key} {value}" for key, value in _machine().items()))
        print("\n".join(lines(reports)))


def _machine() -> dict[str, Any]:
    """What matters of the machine, and nothing that says whose it is."""
    load = os.getloadavg()[0]
    return {
        "cpus": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "uid": "root" if os.geteuid() == 0 else "not root",
        "load": round(load, 2),
    }


if __name__ == "__main__":
    main()
