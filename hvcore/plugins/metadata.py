"""Entry points one distribution at a time, for a node where the metadata of one is damaged: then nobody gets all of them.

That can be a distribution of any project. What it seems to declare is still told, so that it is missed by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata

from packaging.utils import canonicalize_name

__all__ = ["distributions", "place", "seems_to_declare"]


def distributions() -> Iterator[metadata.Distribution]:
    """Each once, the first of a name on the path, as ``entry_points`` has them."""
    seen = set()
    for found in metadata.distributions():
        try:
            name = str(found.metadata["Name"] if "Name" in found.metadata else id(found))
        except ValueError:  # no UTF-8; then it has no name by which it could be there twice
            name = str(id(found))
        key = canonicalize_name(name)
        if key not in seen:
            seen.add(key)
            yield found


def place(found: metadata.Distribution) -> str:
    """The directory with its metadata, by which alone it is known when that cannot be read."""
    return str(getattr(found, "_path", "its metadata"))  # of nothing else that there is in public


def seems_to_declare(found: metadata.Distribution, group: str) -> Iterator[tuple[str, str]]:
    """``(name, target)`` of each line that looks like an entry point of the group; nothing when there is no text at all."""
    text = _text(f"{place(found)}/entry_points.txt")
    section = re.search(rf"^\s*\[{re.escape(group)}\]?\s*$(.*?)(?=^\s*\[|\Z)", text, re.MULTILINE | re.DOTALL)
    for line in section[1].splitlines() if section else ():
        name, _, target = (part.strip() for part in line.partition("="))
        if name and not name.startswith("#"):
            yield name, target


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="backslashreplace") as file:
            return file.read()
    except OSError:
        return ""
