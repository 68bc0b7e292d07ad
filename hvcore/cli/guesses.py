"""Suggestions for a name that this node does not have. Names that differ in their numbers are not suggested."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import hvcore

__all__ = ["instead_of", "looks_like_file", "near_names", "near_word"]

_SUFFIX: Final = ".toml"
_MOST: Final = 3


def near_word(word: str, known: Iterable[str]) -> str | None:
    """``did you mean 'start'?`` for the most similar known word, or None."""
    import difflib  # noqa: PLC0415 - 1.5 ms, after an error only

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def near_names(name: str, known: Iterable[str]) -> str | None:
    """``did you mean 'web1' or 'web2'?`` for the known names that ``name`` can be a misspelling of, or None.

    vm01 and vm30 are two instances, not a misspelling: a name with other numbers is not suggested. A name whose number
    was left out may be any of several, so all are shown, or none if they are many.
    """
    import difflib  # noqa: PLC0415 - as in near_word

    numbers = _numbers(name)
    others = [other for other in known if other != name and (not numbers or _numbers(other) in (numbers, []))]
    exact = [other for other in others if not numbers and _numbers(other) and _letters(other) == name]
    near = exact[:1] or difflib.get_close_matches(name, others, n=1)
    alike = [other for other in others if near and _letters(other) == _letters(near[0])]
    return _one_of(alike) if 0 < len(alike) <= _MOST else None


def looks_like_file(name: str) -> bool:
    """Whether an instance file was given in place of a name."""
    return name.endswith(_SUFFIX) or (os.sep in name and os.path.isfile(name))


def instead_of(name: str, known: Sequence[str]) -> str | None:
    """A suggestion in place of an unknown name: the name in the file, or a similar name; None without one."""
    if "\0" in name:
        return None
    if looks_like_file(name):
        inside = _name_in(name) or os.path.basename(name).removesuffix(_SUFFIX)
        near = f"did you mean {inside!r}?" if inside in known else near_names(inside, known)
        return f"is the name of a file, not of an instance; {near or 'give the name that is in the file'}"
    return near_names(name, known)


def _name_in(file: str) -> str | None:
    with suppress(hvcore.HvError):
        found = hvcore.read_instance_file(file).get("name")
        return found if isinstance(found, str) else None
    return None


def _one_of(names: Sequence[str]) -> str:
    *most, last = (repr(name) for name in names)
    return f"did you mean {', '.join(most)} or {last}?" if most else f"did you mean {last}?"


def _numbers(name: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", name)]


def _letters(name: str) -> str:
    return re.sub("[-_.]*[0-9]+", "", name)
