"""Texts that are not in docstrings, and Markdown from docstrings and tables."""

from __future__ import annotations

import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["DRIVERS", "TEXT", "TOP", "WORDS", "first_line", "prose", "signature", "table", "wrapped"]

TOP: Final = Path(__file__).resolve().parents[2]
DRIVERS: Final = ("kvm", "chroot", "fake")
WORDS: Final[Mapping[str, Mapping[str, str]]] = tomllib.loads((TOP / "docs/words.toml").read_text(encoding="utf-8"))
TEXT: Final = WORDS["text"]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; its cells are escaped, its titles are not."""
    titles = list(head)
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Text in a table: one line, no ``|`` that ends the cell, no ``<`` outside of code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces)


def first_line(thing: object) -> str:
    """The first paragraph of a docstring, code in single back ticks."""
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("``", "`")


def wrapped(text: str) -> str:
    """One paragraph in lines of 120."""
    return textwrap.fill(" ".join(text.split()).replace("``", "`"), 120, break_on_hyphens=False)


def prose(text: str) -> str:
    """A docstring as Markdown: paragraphs stay, examples (``>>>``) become code blocks."""
    parts = []
    for part in inspect.cleandoc(text).split("\n\n"):
        code = part.lstrip().startswith(">>>")
        parts.append(f"```python\n{part}\n```" if code else part.replace("``", "`"))
    return "\n\n".join(parts)


_STARS: Final[Mapping[Any, str]] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def signature(thing: Any) -> str:
    """The parameters of a function, without types."""
    parameters = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    words = []
    starred = False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            words.append("*")
        default = "" if parameter.default is parameter.empty else f"={_default(parameter.default)}"
        words.append(f"{_STARS.get(parameter.kind, '')}{parameter.name}{default}")
    return f"({', '.join(words)})"


def _default(value: object) -> str:
    shown = repr(value) if isinstance(value, bool | int | float | str | tuple | None) else "..."
    return shown if len(shown) <= 60 else "..."
