"""Samples, their comparison, and goals; nothing about what is measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Goal", "Report", "Row", "alternate", "elapsed_ms"]


@dataclass(frozen=True, slots=True)
class Goal:
    """At most ``limit``: of the median in the row's unit, or with ``ratio`` of the median divided by the baseline's."""

    limit: float
    ratio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The ``samples`` of one candidate in ``unit``, compared with those of ``against`` if that is given."""

    name: str
    samples: Sequence[float]
    unit: str = "ms"
    against: Row | None = None
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """The median in multiples of the baseline's, None without one."""
        return None if self.against is None else self.median / self.against.median

    @property
    def compared(self) -> float | None:
        """The number that is compared with the goal."""
        return self.ratio if self.goal is not None and self.goal.ratio else self.median

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.goal is None or self.compared is None:
            return None
        return self.compared <= self.goal.limit

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON types."""
        goal = self.goal
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "samples": list(self.samples),
            "against": self.against.name if self.against else None,
            "ratio": self.ratio,
            "goal": None if goal is None else {"limit": goal.limit, "of": "ratio" if goal.ratio else "median"},
            "met": self.met,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One benchmark: its rows, the parts of one row's time (name to ms or us), and notes for the reader."""

    title: str
    rows: Sequence[Row]
    parts: Mapping[str, float] = field(default_factory=dict)
    parts_of: str = ""
    notes: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {
            "title": self.title,
            "rows": [row.to_json() for row in self.rows],
            "parts_of": self.parts_of,
            "parts": dict(self.parts),
            "notes": list(self.notes),
        }


def alternate(
    candidates: Mapping[str, Callable[[], float]], *, repeat: int, warm_up: int = 2
) -> dict[str, list[float]]:
    """``repeat`` samples of each candidate, taken in turn, so that a disturbance affects all.

    A candidate returns its sample, so its preparation and clean-up are not measured.
    """
    found: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(-warm_up, repeat):
        for name, candidate in candidates.items():
            sample = candidate()
            if turn >= 0:
                found[name].append(sample)
    return found


def elapsed_ms(work: Callable[[], object]) -> float:
    """Milliseconds that one call takes."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000
