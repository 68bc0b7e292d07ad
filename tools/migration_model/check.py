"""Check the model of migration with spin: what must never happen, and what must be possible.

``python -m tools.migration_model`` runs the small configurations, with ``--slow`` the large ones.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from migration_model.generate import WORLD, Model, rules_text, words_text

__all__ = ["Checked", "Configuration", "Event", "available", "check"]

_EVENT: Final = re.compile(r"EV (?P<name>\S+) (?P<number>\d+) \|(?P<state>[ \d|]+)")
_DEEPEST: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Which world is searched: ``faults`` is how many there can be, ``defines`` are the switches of ``world.pml``."""

    mode: str = "live"
    faults: int = 1
    defines: tuple[str, ...] = ()
    model: Model = field(default_factory=Model)

    @property
    def switches(self) -> list[str]:
        """The arguments of spin."""
        return [f"-DMODE=M_{self.mode}", f"-DFAULTS={self.faults}", *(f"-D{name}" for name in self.defines)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A step of a trace, and the states of the journals before it: source and target of job 0, then of the last job."""

    name: str
    number: int
    before: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What spin found: the property that does not hold, or None; and the trace to it, if one was asked for."""

    failed: str | None
    states: int
    trace: tuple[Event, ...] = ()


def available() -> bool:
    """Whether spin and a compiler are installed."""
    return all(shutil.which(name) is not None for name in ("spin", "gcc"))


def check(
    configuration: Configuration, *, trace: bool = False, optimize: bool = False, memory_mib: int = 1000
) -> Checked:
    """Search all states of a configuration. With ``trace`` the way to a failure comes with it."""
    with tempfile.TemporaryDirectory(prefix="hvcore-model-") as name:
        place = Path(name)
        shutil.copy(WORLD, place / "world.pml")
        (place / "words.pml").write_text(words_text(configuration.model), encoding="ascii")
        (place / "rules.pml").write_text(rules_text(configuration.model), encoding="ascii")
        shown = ["-DTRACE"] if trace else []
        _run(place, "spin", "-a", *shown, *configuration.switches, "world.pml")
        bounds = ["-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048", f"-DMEMLIM={memory_mib}"]
        _run(place, "gcc", "-O1" if optimize else "-O0", "-w", *bounds, "-o", "pan", "pan.c")
        found = _run(place, "./pan", "-E", f"-m{_DEEPEST}")
        steps = _run(place, "spin", "-T", "-t", *shown, *configuration.switches, "world.pml") if trace else ""
        return _checked(found, steps)


def _run(place: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        msg = f"{command[0]}: exited with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return done.stdout


def _checked(found: str, steps: str) -> Checked:
    states = re.search(r"([\d.e+]+) states, stored", found)
    if states is None or "max search depth too small" in found or "out of memory" in found:
        msg = f"pan: did not search all:\n{found[-2000:]}"
        raise RuntimeError(msg)
    failed = re.search(r"pan:\d+: (?!wrote)(.*)", found)
    return Checked(
        failed=None if failed is None else failed[1],
        states=int(float(states[1])),
        trace=tuple(_event(one.groupdict()) for one in _EVENT.finditer(steps)),
    )


def _event(match: Mapping[str, Any]) -> Event:
    numbers = tuple(int(word) for word in match["state"].replace("|", " ").split())
    return Event(name=match["name"], number=int(match["number"]), before=numbers)
