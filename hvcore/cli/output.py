"""What ``hv`` prints: results on stdout, messages on stderr, tables, and no control characters.

Only results reach stdout: while a subcommand runs, what plugins and their child processes print goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TextIO

__all__ = [
    "STDOUT",
    "Column",
    "clear_screen",
    "complain",
    "emit_json",
    "fitted",
    "is_terminal",
    "move_stdout",
    "on_one_line",
    "pass_stdout_on",
    "printable",
    "printing",
    "remark",
    "results",
    "results_only",
    "say",
    "show",
    "show_table",
]

_results: Final[list[TextIO | None]] = []  # the stream for results, inside results_only()

STDOUT: Final = "standard output"


def printable(text: str) -> str:
    r"""The text with control characters and bytes that are not UTF-8 shown as escapes (``\x1b``); newlines stay.

    Guests, files and plugins supply some of the printed text, and must not control the terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = (char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown)


def on_one_line(value: object) -> str:
    r"""The value as text, with a newline as ``\\n``: a path with a newline must not add a line that looks like a fact."""
    return printable(str(value)).replace("\n", "\\n")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal. A closed stream is None."""
    return stream is not None and stream.isatty()


def say(text: str) -> None:
    """Print text on stdout and flush it. Raises OSError naming `STDOUT` when that fails."""
    _write(printable(text))


def results() -> TextIO | None:
    """The stream for results, which is stdout; None if that is closed."""
    return _results[-1] if _results else sys.stdout


def _write(text: str) -> None:
    stdout = results()
    if stdout is not None:
        with printing():
            stdout.write(f"{text}\n")
            stdout.flush()


@contextmanager
def printing() -> Iterator[None]:
    """An OSError in the block names `STDOUT` as its file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from error


@contextmanager
def results_only() -> Iterator[None]:
    """Keep stdout for `results` in the block. What plugins print goes to stderr."""
    _results.append(results())
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _results.pop()


def move_stdout() -> None:
    """Keep descriptor 1 from plugins and from programs that they run: it becomes stderr, and `sys.stdout` a copy of it."""
    if sys.stdout is None or sys.stderr is None:
        return
    stdout = sys.stdout
    lines = 1 if stdout.isatty() else -1
    copy = open(os.dup(1), "w", lines, encoding=stdout.encoding, errors=stdout.errors)  # noqa: SIM115 - until the end
    sys.stdout.flush()
    os.dup2(2, 1)
    sys.stdout = copy


def pass_stdout_on() -> None:
    """Make descriptor 1 stdout again, for a program that replaces this process."""
    stdout = results()
    if stdout is not None:
        with suppress(OSError, ValueError):  # an object in place of the stream, without a descriptor
            stdout.flush()
            os.dup2(stdout.fileno(), 1)


def clear_screen() -> None:
    """Clear the terminal at stdout."""
    stdout = results()
    if stdout is not None:
        with printing():
            stdout.write("\x1b[H\x1b[2J")


def show(data: Any, text: str, *, as_json: bool) -> None:
    """Print the data as one JSON document, or else the text."""
    if as_json:
        emit_json(data)
    else:
        say(text)


def emit_json(data: Any) -> None:
    """Print one JSON document on stdout: ASCII, indented, with a newline at the end."""
    _write(json.dumps(data, indent=2))


def remark(text: str) -> None:
    """Print a message on stderr."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # stderr is closed


def complain(text: str) -> None:
    """Print an error on stderr, as ``hv: ...``."""
    remark(f"hv: {text}")


# Characters. A longer cell does not widen its column: it only shifts the rest of its line.
_WIDEST: Final = 60


class Column(NamedTuple):
    """A column: ``right`` aligns numbers, ``styles`` maps the text of a cell to its rich style on a terminal.

    ``dropped`` is the turn in which a narrow terminal loses the column, from 1; 0 is never. A column that ``wraps`` has
    more lines there; in any other, long cells end in an ellipsis.
    """

    title: str
    right: bool = False
    styles: Mapping[str, str] = MappingProxyType({})
    dropped: int = 0
    wraps: bool = True


def show_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print the rows on stdout, with colours on a terminal. None is shown as ``-``, a newline in a cell as a space."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not (is_terminal(results()) and _show_rich(columns, cells)):
        say(_plain(columns, cells))


_LEAST_WRAPPED: Final = 16  # characters; a narrower column of text cannot be read
_LEAST_SHORTENED: Final = 8


def fitted(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int
) -> tuple[list[Column], list[list[str]]]:
    """The columns and cells that fit into ``width`` characters: columns are dropped, then long cells shortened."""
    kept = list(range(len(columns)))
    for index in sorted((at for at in kept if columns[at].dropped), key=lambda at: columns[at].dropped):
        if _needed(columns, cells, kept) <= width:
            break
        kept.remove(index)
    over = _needed(columns, cells, kept) - width
    limits: dict[int, int] = {}
    for index in kept:
        needed = _width(columns, cells, index)
        if over > 0 and not columns[index].wraps and needed > _LEAST_SHORTENED:
            limits[index] = max(_LEAST_SHORTENED, len(columns[index].title), needed - over)
            over -= needed - limits[index]
    rows = [[_shortened(row[index], limits.get(index)) for index in kept] for row in cells]
    return [columns[index] for index in kept], rows


def _needed(columns: Sequence[Column], cells: Sequence[Sequence[str]], kept: Sequence[int]) -> int:
    return sum(_width(columns, cells, index) for index in kept) + 2 * (len(kept) - 1)


def _width(columns: Sequence[Column], cells: Sequence[Sequence[str]], index: int) -> int:
    widest = max(len(text) for text in (columns[index].title, *(row[index] for row in cells)))
    return min(widest, _LEAST_WRAPPED) if columns[index].wraps else widest


def _shortened(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else f"{text[: limit - 1]}\N{HORIZONTAL ELLIPSIS}"


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else printable(" ".join(map(str.strip, str(value).splitlines())))


def _plain(columns: Sequence[Column], cells: list[list[str]]) -> str:
    lines = [[column.title for column in columns], *cells]
    widths = [max(len(line[index]) for line in lines if len(line[index]) <= _WIDEST) for index in range(len(columns))]
    pads = [str.rjust if column.right else str.ljust for column in columns]
    padded = ([pad(cell, width) for pad, cell, width in zip(pads, line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _show_rich(columns: Sequence[Column], cells: list[list[str]]) -> bool:
    """Print with rich; False when rich is not installed."""
    try:
        from rich.console import Console  # noqa: PLC0415 - 34 ms, on a terminal only; may be missing
        from rich.table import Table  # noqa: PLC0415 - as above
        from rich.text import Text  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        return False
    console = Console(highlight=False, file=results())
    columns, cells = fitted(columns, cells, console.width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(column.title, justify=justify, overflow="fold", no_wrap=not column.wraps)
    for row in cells:
        # Text, not str: text from guests and plugins is not markup.
        table.add_row(*(Text(cell, column.styles.get(cell, "")) for column, cell in zip(columns, row, strict=True)))
    console.print(table)
    return True
