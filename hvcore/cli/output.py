"""What ``hv`` prints: data on stdout, everything about it on stderr, and nothing that can steer a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any, Final, TextIO

__all__ = ["STDOUT", "complain", "emit_json", "is_terminal", "only_documents", "printable", "printing", "remark", "say"]

_documents: ContextVar[TextIO] = ContextVar("documents")  # where they go while stdout is kept for them

STDOUT: Final = "standard output"


def printable(text: str) -> str:
    r"""The text with control characters and bytes that are not UTF-8 shown as escapes (``\x1b``); newlines stay.

    Guests, files and plugins have a say in what is printed; a terminal obeys what it is sent.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = (char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return "".join(shown)


def is_terminal(stream: TextIO | None) -> bool:
    """True for a stream that a person looks at; a closed one (None) is not."""
    return stream is not None and stream.isatty()


def say(text: str) -> None:
    """Print text on stdout, and be sure that it went out. Raises OSError naming `STDOUT` when it did not."""
    _write(sys.stdout, printable(text))


def _write(stdout: TextIO | None, text: str) -> None:
    if stdout is None:
        return
    with printing():
        stdout.write(f"{text}\n")
        stdout.flush()


@contextmanager
def printing() -> Iterator[None]:
    """What fails in the block is standard output, whatever file or socket the next thing to blame would be."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from error


@contextmanager
def only_documents() -> Iterator[None]:
    """Keep stdout for what `emit_json` prints in the block: a plugin that prints is heard on stderr, beside it."""
    kept = _documents.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _documents.reset(kept)


def emit_json(data: Any) -> None:
    """Print one JSON document on stdout: plain ASCII, indented, with a newline at its end."""
    _write(_documents.get(sys.stdout), json.dumps(data, indent=2))


def remark(text: str) -> None:
    """Print a line on stderr that is no error."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # nobody is there to be told


def complain(text: str) -> None:
    """Print an error on stderr, as ``hv: ...``."""
    remark(f"hv: {text}")
