"""``python -m benchmarks``: measure everything and print tables, or one document with ``--json``."""

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
from benchmarks.measuring import usages
from benchmarks.networks import network_locks, networks
from benchmarks.plugging import attaches
from benchmarks.qemu import plans, probes
from benchmarks.qmp_clients import commands_of_clients
from benchmarks.show import lines
from benchmarks.starting import starts, stops
from benchmarks.stopping import stops_of_all
from benchmarks.user_network import user_networks

__all__ = ["main"]

_ALL: Final[dict[str, Callable[[int], Iterator[Report]]]] = {
    "start": starts,
    "stop": stops,
    "stop-all": stops_of_all,
    "attach": attaches,
    "qmp": commands_of_clients,
    "growth": growths,
    "modules": modules_entered,
    "list": lists,
    "usage": usages,
    "check": checks,
    "plan": plans,
    "probe": probes,
    "command": commands,
    "chroot": chroots,
    "user-network": user_networks,
    "network": networks,
    "locks": network_locks,
}


def main() -> None:
    """Run the benchmarks that the command line names. Exits with 0 also when a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure the cost of hvcore beside the same work without it."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(_ALL)} (default: all)")
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
    """The facts that affect a figure, and none that identifies the machine."""
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
