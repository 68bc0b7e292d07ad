"""Tables in a pipe: aligned columns, one row to a line."""

from __future__ import annotations

import pytest

from hvcore.cli.instances.listing import _COLUMNS
from hvcore.cli.output import Column, fitted, show_table
from hvcore.cli.progress import line_of_progress


def test_a_cell_that_is_far_too_long_moves_its_own_line_only(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([Column("KEY"), Column("VALUE"), Column("WHY")], [["a", "1", "x"], ["b", "2" * 100, "y"]])
    assert capsys.readouterr().out.splitlines() == [
        "KEY  VALUE  WHY",
        "a    1      x",
        f"b    {'2' * 100}  y",
    ]


def test_a_cell_is_on_one_line_and_keeps_its_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([Column("KEY"), Column("VALUE")], [["a", "two  blanks"], ["b", "two\n  lines"]])
    assert capsys.readouterr().out.splitlines() == ["KEY  VALUE", "a    two  blanks", "b    two lines"]


ROW = ["web1", "kvm", "running", "2", "1024", "512", "13.7", "3d 4h", "-"]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("name", ["web1", "a" * 94])
def test_the_list_fits_its_terminal_without_broken_words(width: int, name: str) -> None:
    columns, rows = fitted(_COLUMNS, [[name, *ROW[1:]], ROW], width)
    widths = [max(len(column.title), *(len(row[at]) for row in rows)) for at, column in enumerate(columns)]
    assert sum(widths) + 2 * (len(widths) - 1) <= width
    titles = [column.title for column in columns]
    assert {"NAME", "STATE", "REASON"} <= set(titles)
    assert all(row[titles.index("STATE")] == "running" for row in rows)


def test_cpu_resident_and_uptime_go_first() -> None:
    columns, _ = fitted(_COLUMNS, [ROW], 60)
    assert [column.title for column in columns] == ["NAME", "DRIVER", "STATE", "VCPUS", "MEMORY", "UPTIME", "REASON"]
    assert len(fitted(_COLUMNS, [ROW], 120)[0]) == len(_COLUMNS)


def test_a_shortened_cell_ends_in_an_ellipsis() -> None:
    assert fitted([Column("NAME", wraps=False)], [["a" * 50]], 20)[1] == [["a" * 19 + "\N{HORIZONTAL ELLIPSIS}"]]


@pytest.mark.parametrize(
    ("seconds", "line"),
    [(0.5, "stopping"), (2.0, "stopping (2 s)"), (12.4, "stopping (12 s; to end it now: ^C)")],
)
def test_slow_work_shows_its_seconds_and_later_how_to_force(seconds: float, line: str) -> None:
    assert line_of_progress("stopping", "to end it now: ^C", seconds) == line
