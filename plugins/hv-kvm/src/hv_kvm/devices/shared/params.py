"""Types of parameters, and problems with a parameter or with this QEMU, for several families. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import hvcore.plugin as hv
from hv_kvm.machine.facts import Facts

__all__ = ["lacking", "listed", "new_file", "problem"]


def listed(item: str, expects: str, *, max_items: int) -> hv.ParamType:
    """Several items in one text, separated by commas or spaces; each matches the regular expression ``item``.

    The clean value has them in lower case and joined by commas.
    """
    matches, line = re.compile(item, re.ASCII).fullmatch, hv.text(max_bytes=1024)

    def parse(value: object) -> str:
        words = [word for word in re.split("[, ]+", line.parse(value)) if word]
        if not words:
            raise hv.Reject("is empty")
        if len(words) > max_items:
            raise hv.Reject(f"has more than {max_items} items")
        wrong = next((word for word in words if matches(word) is None), None)
        if wrong is not None:
            raise hv.Reject(f"contains the unknown item {wrong[:40]!r}")
        return ",".join(words).lower()

    pattern = f"^[, ]*(?:{item})(?:[, ]+(?:{item})){{0,{max_items - 1}}}[, ]*(?![\\s\\S])"
    return hv.ParamType("list", expects, parse, {"type": "string", "maxLength": 1024, "pattern": pattern})


def new_file() -> hv.ParamType:
    """The absolute, normalised path of a file that need not be there yet."""
    expects = "the absolute path of a file, which the start makes if it does not exist"
    return replace(hv.file(), kind="new file", expects=expects, node_check=None)


def problem(params: hv.Params, key: str, what: str, todo: str | None = None) -> hv.Problem:
    """The problem with the value of a parameter. A value that is set is shown."""
    value = list(params[key]) if isinstance(params[key], tuple) else params[key]
    return hv.Problem(path=f"params.{key}", what=what, got=None if value is None else repr(value)[:80], todo=todo)


def lacking(facts: Facts, device: str, path: str, todo: str, got: str | None = None) -> Iterator[hv.Problem]:
    """The problem that this QEMU does not have the type of device, if it does not."""
    if not facts.has_type(device):
        yield hv.Problem(path=path, what=facts.lacks(device), got=got, todo=todo)
