"""The rules for names of instances and drivers. A name becomes a directory and part of argv, so the rule is narrow."""

from __future__ import annotations

import re
from typing import Final

from hvcore.errors import Problem
from hvcore.params.words import shortened

__all__ = ["DRIVER_PATTERN", "MAX_NAME_BYTES", "NAME_PATTERN", "name_problem", "sha256_hex"]

MAX_NAME_BYTES: Final = 200
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9_])?")
_SHORT_LABEL: Final = r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
NAME_PATTERN: Final = rf"{_SHORT_LABEL}(?:\.{_SHORT_LABEL})*"
"""The same rule as a regular expression, for JSON Schema."""
_TODO: Final = "use labels of a-z, 0-9, '-' and '_' separated by dots, such as 'web1.example'"


DRIVER_PATTERN: Final = "[a-z][a-z0-9_-]{0,63}"
"""The rule for names of drivers, as a regular expression."""


def name_problem(name: object) -> Problem | None:
    """The reason why ``name`` cannot name an instance, or None when it can.

    Allowed: at most 200 bytes of dot-separated labels, each 1 to 63 of ``[a-z0-9_-]``, none
    beginning or ending with ``-``. So it is never an option, a path or a hidden file.
    """
    if not isinstance(name, str):
        return Problem(path="name", what="must be a string", got=shortened(name), todo=_TODO)
    if not name:
        return Problem(path="name", what="is empty", got=repr(name), todo=_TODO)
    if len(name) > MAX_NAME_BYTES:
        what = f"is {len(name)} characters long, the maximum is {MAX_NAME_BYTES}"
        return Problem(path="name", what=what, got=shortened(name), todo=_TODO)
    for label in name.split("."):
        if len(label) > 63:
            return Problem(path="name", what="has a label of more than 63 characters", got=shortened(name), todo=_TODO)
        if not _LABEL.fullmatch(label):
            return Problem(path="name", what="is not an instance name", got=shortened(name), todo=_TODO)
    return None


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of a few bytes as 64 hexadecimal digits, for names of files, links and groups."""
    import hashlib  # noqa: PLC0415 - 6.5 ms (OpenSSL), which most commands do not need

    return hashlib.sha256(data).hexdigest()
