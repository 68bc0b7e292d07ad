"""Sizes as text. Prefixes are binary: ``2G`` is 2 GiB.

``MB`` and ``GB`` are refused, because they mean powers of 1000 to some and of 1024 to others.
"""

from __future__ import annotations

import re

__all__ = ["LONGEST_SIZE", "MAX_MIB", "format_mib", "parse_mib"]

_FACTORS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
_SIZE = r"(?ai)([0-9]{1,19})(?:\.([0-9]{1,9}))? ?([KMGTP]?)(?:iB)?"
_DECIMAL = r"(?ai)[0-9.]+ ?[KMGTP]B"

LONGEST_SIZE = 40
"""Characters of the longest text that is read as a size."""

MAX_MIB = (2**63 - 1) // 1024**2
"""The largest size that the kernel (off_t) and QEMU take, in whole MiB: both count bytes in 63 bits."""


def parse_mib(text: str) -> int:
    """MiB from ``"512M"``, ``"2G"`` or ``"1.5 GiB"``; a bare number has no unit and is refused.

    ValueError, whose text is for the user, also when the size is not a whole number of MiB.
    """
    match = re.fullmatch(_SIZE, text) if len(text) <= LONGEST_SIZE else None
    if match is None:
        if len(text) <= LONGEST_SIZE and re.fullmatch(_DECIMAL, text):
            raise ValueError("has a unit that can mean 1000 or 1024, write K, M, G or T for powers of 1024")
        raise ValueError("is not a size such as 512M or 2G")
    whole, fraction, prefix = match[1], match[2] or "", match[3].upper()
    scale = int("1" + "0" * len(fraction))
    size, rest = divmod(int(whole + fraction) * _FACTORS[prefix], scale * 1024**2)
    if size > MAX_MIB:
        raise ValueError(f"is above the largest size of {format_mib(MAX_MIB + 1)}")
    if not prefix and not text.endswith(("b", "B")):
        raise ValueError("has no unit")
    if rest:
        raise ValueError("is not a whole number of MiB")
    return size


def format_mib(mib: int) -> str:
    """``512`` as ``512 MiB`` and ``2048`` as ``2 GiB``: exact, so `parse_mib` reads the same number back."""
    for prefix in "PTG":
        per_unit = _FACTORS[prefix] // 1024**2
        if mib and mib % per_unit == 0:
            return f"{mib // per_unit} {prefix}iB"
    return f"{mib} MiB"
