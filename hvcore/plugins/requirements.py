"""The requirements of a distribution: the range of hvcore, and the packages that are missing here.

A requirement counts only if its marker holds for this Python. An invalid requirement or version (PEP 440, PEP 508) is
skipped unless a function says otherwise, because one distribution must not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib import metadata

from packaging.markers import UndefinedComparison
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version

__all__ = ["canonical_name", "is_below", "missing", "range_of", "required", "unmet", "version_of"]


def canonical_name(name: str) -> str:
    """The name of a distribution in its one form for comparisons (PEP 503)."""
    # As packaging.utils, whose import takes 7 ms more: it can also name wheels, by the platform.
    return re.sub(r"[-_.]+", "-", name).lower()


def range_of(name: str, lines: Iterable[str]) -> SpecifierSet:
    """The versions of one distribution that the requirements allow: all versions if none names it.

    Raises ValueError with the first invalid requirement that seems to name it.
    """
    seems = re.compile(rf"\s*{re.escape(name)}(?![\w.-])", re.IGNORECASE)
    wanted = SpecifierSet()
    for line in lines:
        parsed = _parsed(line)
        if parsed is None and seems.match(line):
            raise ValueError(line)
        if parsed is not None and canonical_name(parsed.name) == name and _holds(parsed):
            wanted &= parsed.specifier
    return wanted


def unmet(wanted: SpecifierSet, version: str) -> Specifier | None:
    """One clause that the installed version does not meet; None if it meets all. A pre-release can meet a range."""
    clauses = sorted(wanted, key=str)  # the set itself has no order
    return next((clause for clause in clauses if not clause.contains(version, prereleases=True)), None)


def is_below(version: str, clause: Specifier) -> bool:
    """Whether an installed version that does not meet the clause is too low, and not too high."""
    if clause.operator in ("<", "<="):
        return False
    if clause.operator in ("==", "~=", "==="):
        wanted = version_of(clause.version.removesuffix(".*"))
        return wanted is None or Version(version) <= wanted
    return True


def version_of(text: str) -> Version | None:
    """The text as a version of PEP 440; None if it is not valid."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def missing(distribution: str) -> list[str]:
    """Requirements of the installed distribution that are missing here or have a wrong version."""
    return [str(item).partition(";")[0].rstrip() for item in _requirements_of(distribution) if not _is_met(item)]


def required(distribution: str) -> set[str]:
    """Canonical names of the packages that the installed distribution requires here."""
    return {canonical_name(item.name) for item in _requirements_of(distribution)}


def _requirements_of(distribution: str) -> list[Requirement]:
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    return [parsed for line in lines if (parsed := _parsed(line)) is not None and _holds(parsed)]


def _holds(parsed: Requirement) -> bool:
    return parsed.marker is None or parsed.marker.evaluate({"extra": ""})


def _parsed(line: str) -> Requirement | None:
    try:
        found = Requirement(line)
        _holds(found)
    except (InvalidRequirement, UndefinedComparison):
        return None
    return found


def _is_met(wanted: Requirement) -> bool:
    try:
        found: str | None = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return False
    if not found:  # its metadata was removed or emptied
        return False
    return version_of(found) is None or wanted.specifier.contains(found, prereleases=True)
