"""Tables: plain aligned columns for programs and pipes, with colour on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from hvcore.cli.output import is_terminal, printable, say

__all__ = ["Column", "show_table"]

# A longer cell sticks out of its column and moves the rest of its own line only.
_WIDEST: Final = 60


class Column(NamedTuple):
    """A heading; ``right`` for numbers; ``styles`` maps a cell's text to the rich style it has on a terminal."""

    title: str
    right: bool = False
    styles: Mapping[str, str] = MappingProxyType({})


def show_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print the rows on stdout. None is shown as ``-``; newlines in a cell as spaces."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not (is_terminal(sys.stdout) and _show_rich(columns, cells)):
        say(_plain(columns, cells))


def _cell(value: object) -> str:
    text = "-" if value is None or value == "" else " ".join(map(str.strip, str(value).splitlines()))
    return printable(text)


def _plain(columns: Sequence[Column], cells: list[list[str]]) -> str:
    lines = [[column.title for column in columns], *cells]
    widths = [max(len(line[index]) for line in lines if len(line[index]) <= _WIDEST) for index in range(len(columns))]
    return "\n".join(_line(columns, widths, line) for line in lines)


def _line(columns: Sequence[Column], widths: list[int], cells: list[str]) -> str:
    parts = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, width, cell in zip(columns, widths, cells, strict=True)
    )
    return "  ".join(parts).rstrip()


def _show_rich(columns: Sequence[Column], cells: list[list[str]]) -> bool:
    """Print with rich; False when rich is not installed."""
    try:
        from rich.console import Console  # noqa: PLC0415 - 34 ms, on a terminal only; may be missing
        from rich.table import Table  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        return False
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for row in cells:
        # Text, not str: what a guest or a plugin wrote is no markup.
        table.add_row(*(Text(cell, column.styles.get(cell, "")) for column, cell in zip(columns, row, strict=True)))
    Console(highlight=False).print(table)
    return True
