"""``hv list`` as a process, as scripts and people call it, beside a Python that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.guests import bench, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row, alternate, elapsed_ms

__all__ = ["commands"]

_GUESTS: Final = 3
_OURS: Final = ("hvcore", "hv_kvm", "click", "rich", "pluggy", "stevedore", "voluptuous")


def commands(repeat: int) -> Iterator[Report]:
    """One report."""
    where = on_tmpfs() or on_disk()
    if where is None:
        return
    hv = str(Path(sys.executable).with_name("hv"))
    with bench(where) as empty, bench(where) as made, tempfile.TemporaryDirectory() as cache:
        for number in range(_GUESTS):
            made.kvm.start(made.instance(f"vm{number}"), paused=True)
        # Compiled once, as pip does it. A checkout that the caller may not write to would be compiled each time.
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
        calls = {
            "pass": [sys.executable, "-c", "pass"],
            "click": [sys.executable, "-c", "import click"],
            "none": [hv, "--run-dir", str(empty.node.run_dir), "list"],
            "some": [hv, "--run-dir", str(made.node.run_dir), "list"],
        }
        found = alternate(
            {name: partial(_took_ms, argv, environment) for name, argv in calls.items()},
            repeat=repeat,
        )
        parts = _imports([sys.executable, "-X", "importtime", *calls["some"]], environment)
    nothing = Row(name="python -c pass", samples=found["pass"])
    goal = Goal(8, ratio=True)
    yield Report(
        title="hv list as a process",
        rows=[
            nothing,
            Row(name="python -c 'import click'", samples=found["click"], against=nothing),
            Row(name="hv list, no instance", samples=found["none"], against=nothing, goal=goal),
            Row(name=f"hv list, {_GUESTS} guests of driver kvm", samples=found["some"], against=nothing, goal=goal),
        ],
        parts=parts,
        parts_of="the imports of hv list with guests, by package, ms",
    )


def _took_ms(argv: list[str], environment: Mapping[str, str]) -> float:
    return elapsed_ms(lambda: _run(argv, environment))


def _run(argv: list[str], environment: Mapping[str, str]) -> bytes:
    return subprocess.run(argv, env=environment, check=True, capture_output=True).stderr


def _imports(argv: list[str], environment: Mapping[str, str]) -> dict[str, float]:
    """Milliseconds by package, from ``-X importtime``, which makes every import a little slower."""
    spent: dict[str, float] = {}
    for line in _run(argv, environment).decode().splitlines():
        fields = line.removeprefix("import time:").split("|")
        if len(fields) == 3 and fields[0].strip().isdigit():
            top = fields[2].strip().split(".")[0]
            owner = top if top in _OURS else "standard library"
            spent[owner] = spent.get(owner, 0.0) + int(fields[0]) / 1000
    return dict(sorted(spent.items(), key=lambda pair: -pair[1]))
