"""Values in messages: their kind in words, and their text in a length that can be shown."""

from __future__ import annotations

import datetime as dt
import reprlib
from collections.abc import Iterable, Mapping

__all__ = ["SHOWN_CHARACTERS", "kind_of", "nearest", "shortened"]

SHOWN_CHARACTERS = 80

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = SHOWN_CHARACTERS
_repr.maxlevel = 3

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    (str, "a text"),
    (int, "a whole number"),
    (float, "a number with a fraction"),
    ((list, tuple), "a list"),
    (Mapping, "a table"),
    ((dt.date, dt.time), "a date or a time"),
    (type(None), "nothing (null)"),
)


def kind_of(value: object) -> str:
    """The kind of a value, in the words of a person who writes a file: ``a text``, ``a list``."""
    return next((words for types, words in _KINDS if isinstance(value, types)), f"a Python {type(value).__name__}")


def shortened(value: object) -> str:
    """The value's ``repr``, of any value, in at most about 80 characters."""
    try:
        shown = _repr.repr(value)
    except ValueError:  # Python >= 3.11 refuses to print an int of more than 4300 digits
        return "a number too long to show"
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 3]}..."


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that is most similar to the first 64 characters of ``word``, or None."""
    import difflib  # noqa: PLC0415 - 1.5 ms, after an error only

    return next(iter(difflib.get_close_matches(word[:64], list(known), n=1)), None)
