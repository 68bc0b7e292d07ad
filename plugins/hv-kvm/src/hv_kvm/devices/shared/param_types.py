"""Parameter types of this driver: a list of words, a file to be made."""

from __future__ import annotations

import re
from dataclasses import replace

import hvcore.plugin as hv

__all__ = ["listed", "new_file"]


def listed(item: str, expects: str, *, max_items: int) -> hv.ParamType:
    """Several items in one text, separated by commas or spaces; each matches the regular expression ``item``.

    The clean value has them in lower case and joined by commas.
    """
    matches, line = re.compile(item, re.ASCII).fullmatch, hv.text(max_bytes=1024)

    def parse(value: object) -> str:
        words = [word for word in re.split("[, ]+", line.parse(value)) if word]
        if not words:
            raise hv.Reject("has nothing in it")
        if len(words) > max_items:
            raise hv.Reject(f"has more than {max_items} items")
        wrong = next((word for word in words if matches(word) is None), None)
        if wrong is not None:
            raise hv.Reject(f"has {wrong[:40]!r} in it, which is none of them")
        return ",".join(words).lower()

    pattern = f"^[, ]*(?:{item})(?:[, ]+(?:{item})){{0,{max_items - 1}}}[, ]*(?![\\s\\S])"
    return hv.ParamType("list", expects, parse, {"type": "string", "maxLength": 1024, "pattern": pattern})


def new_file() -> hv.ParamType:
    """The absolute, normalised path of a file that need not be there yet."""
    return replace(
        hv.file(), kind="new file", expects="the absolute path of a file, which is made if need be", node_check=None
    )
