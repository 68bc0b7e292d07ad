"""Tables in a pipe: aligned columns, one row to a line."""

from __future__ import annotations

import pytest

from hvcore.cli.output import Column, show_table


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
