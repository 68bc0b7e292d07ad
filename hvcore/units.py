"""Sizes and times: read from text, print for people, convert. The only place that multiplies by 1024.

A size in a field or a parameter is an int with its unit in the name (``memory_mib``, ``disk_bytes``).
Prefixes are binary throughout: ``2G`` is 2 GiB. ``MB`` and ``GB`` mean powers of 1000 to some and of 1024 to
others, so they are refused.
"""

from __future__ import annotations

import re

__all__ = [
    "LONGEST_SIZE",
    "MAX_BYTES",
    "MAX_MIB",
    "bytes_to_mib",
    "format_bytes",
    "format_mib",
    "format_seconds",
    "kib_to_bytes",
    "mib_to_bytes",
    "parse_bytes",
    "parse_mib",
]

_KIB = 1024
_MIB = 1024 * _KIB
_FACTORS = {"": 1, "K": _KIB, "M": _MIB, "G": 1024 * _MIB, "T": 1024**2 * _MIB, "P": 1024**3 * _MIB}
_SIZE = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,9}))? ?([KMGTP]?)(?:iB)?", re.ASCII | re.IGNORECASE)
_DECIMAL = re.compile(r"[0-9.]+ ?[KMGTP]B", re.ASCII | re.IGNORECASE)

LONGEST_SIZE = 40
"""Characters of the longest text that is read as a size."""

MAX_BYTES = 2**63 - 1
"""The largest size that any interface below takes: off_t, and QEMU's own size type, are 63 bits."""

MAX_MIB = MAX_BYTES // _MIB
"""`MAX_BYTES` in whole MiB."""


def parse_bytes(text: str) -> int:
    """Bytes from ``"64K"``, ``"1.5 GiB"`` or ``"512"`` (bytes).

    ValueError, with a message fit to show, when it is not a size or not a whole number of bytes.
    """
    match = _SIZE.fullmatch(text) if len(text) <= LONGEST_SIZE else None
    if match is None:
        if len(text) <= LONGEST_SIZE and _DECIMAL.fullmatch(text):
            raise ValueError("has a unit that can mean 1000 or 1024, write K, M, G or T for powers of 1024")
        raise ValueError("is not a size such as 512M or 2G")
    whole, fraction, prefix = match[1], match[2] or "", match[3].upper()
    scale = int("1" + "0" * len(fraction))
    size, rest = divmod(int(whole + fraction) * _FACTORS[prefix], scale)
    if rest:
        raise ValueError("is not a whole number of bytes")
    if size > MAX_BYTES:
        raise ValueError(f"is above the largest size of {format_bytes(MAX_BYTES)}")
    return size


def parse_mib(text: str) -> int:
    """MiB from ``"512M"``, ``"2G"`` or ``"1.5 GiB"``; a bare number has no unit and is refused.

    ValueError, with a message fit to show, also when it is not a whole number of MiB.
    """
    size, rest = divmod(parse_bytes(text), _MIB)
    if text.strip()[-1:].isdigit():
        raise ValueError("has no unit")
    if rest:
        raise ValueError("is not a whole number of MiB")
    return size


def mib_to_bytes(mib: int) -> int:
    """MiB as bytes."""
    return mib * _MIB


def kib_to_bytes(kib: int) -> int:
    """KiB, the unit of /proc, as bytes."""
    return kib * _KIB


def bytes_to_mib(size: int) -> int:
    """Bytes as whole MiB, rounded down: what is left over is not a MiB that could be used."""
    return size // _MIB


def format_mib(mib: int) -> str:
    """``512`` as ``512 MiB`` and ``2048`` as ``2 GiB``: exact, so `parse_mib` reads the same number back."""
    for prefix in "PTG":
        per_unit = _FACTORS[prefix] // _MIB
        if mib and mib % per_unit == 0:
            return f"{mib // per_unit} {prefix}iB"
    return f"{mib} MiB"


def format_bytes(size: int) -> str:
    """``1610612736`` as ``1.5 GiB``: one decimal, for people, not exact."""
    for prefix in "PTGMK":
        factor = _FACTORS[prefix]
        if abs(size) >= factor:
            return f"{size / factor:.1f} {prefix}iB".replace(".0 ", " ")
    return f"{size} B"


def format_seconds(seconds: float) -> str:
    """``0.012`` as ``12 ms``, ``4.25`` as ``4.2 s``, ``3700`` as ``1 h 1 min``: two figures, for people, not exact."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    minutes, left_s = divmod(int(seconds), 60)
    hours, left_min = divmod(minutes, 60)
    days, left_h = divmod(hours, 24)
    if days:
        return _two(days, "d", left_h, "h")
    return _two(hours, "h", left_min, "min") if hours else _two(minutes, "min", left_s, "s")


def _two(major: int, major_unit: str, minor: int, minor_unit: str) -> str:
    return f"{major} {major_unit} {minor} {minor_unit}" if minor else f"{major} {major_unit}"
