"""What ``hv`` prints: data on stdout, everything about it on stderr, and nothing that can steer a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any, Final, TextIO

__all__ = ["STDOUT", "complain", "emit_json", "is_terminal", "printable", "remark", "say"]


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
    if sys.stdout is None:
        return
    try:
        sys.stdout.write(f"{printable(text)}\n")
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, STDOUT) from error


def emit_json(data: Any) -> None:
    """Print one JSON document on stdout: plain ASCII, indented, with a newline at its end."""
    say(json.dumps(data, indent=2))


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
