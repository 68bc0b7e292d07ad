"""Reports as a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.measure import Report, Row

__all__ = ["lines"]

_HEAD = ("", "median", "min", "max", "ratio", "goal", "met")


def lines(reports: Iterable[Report]) -> Iterator[str]:
    """The text of the reports, line by line."""
    for report in reports:
        yield ""
        yield report.title
        yield from _table([_HEAD, *(_cells(row) for row in report.rows)])
        if report.parts:
            yield f"  of {report.parts_of}:"
            yield from _table([("", name, f"{value:.2f}") for name, value in report.parts.items()])
        for note in report.notes:
            yield f"  - {note}"


def _cells(row: Row) -> tuple[str, ...]:
    low, high = min(row.samples), max(row.samples)
    ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
    goal = ""
    if row.goal is not None:
        goal = f"<= {row.goal.limit:g} {'x' if row.goal.ratio else row.unit}"
    met = {None: "", True: "yes", False: "NO"}[row.met]
    if row.met is False and row.compared is not None and row.goal is not None:
        met += f", {row.compared / row.goal.limit - 1:.0%} over"
    return (row.name, f"{row.median:.2f} {row.unit}", f"{low:.2f}", f"{high:.2f}", ratio, goal, met)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *rest = (cell.ljust(widths[0]) if not at else cell.rjust(widths[at]) for at, cell in enumerate(row))
        yield "  " + "  ".join((first, *rest)).rstrip()
