"""Which drivers are installed, found without importing any of them.

Everything comes from the metadata of the installed distributions, so a driver that is broken or does
not fit can still be listed, with the reason, and costs the others nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import metadata
from typing import Any, Final

from packaging.utils import canonicalize_name

from hvcore._version import __version__
from hvcore.plugins import requirements

__all__ = ["DRIVERS_GROUP", "EXTENSIONS_GROUP", "CatalogueEntry", "Verdict", "catalogue", "installed"]

DRIVERS_GROUP: Final = "hvcore.drivers"
EXTENSIONS_GROUP: Final = "hvcore.extensions"


class Verdict(StrEnum):
    """Whether a driver can be used. ``broken`` is only known once it was tried."""

    OK = "ok"
    TOO_OLD = "too-old"
    TOO_NEW = "too-new"
    DUPLICATE = "duplicate"
    BLOCKED = "blocked"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One installed driver or extension. ``requires`` is the range of hvcore that its distribution asks for."""

    name: str
    target: str
    distribution: str
    version: str
    requires: str
    verdict: Verdict
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as plain JSON types."""
        return {
            "name": self.name,
            "target": self.target,
            "distribution": self.distribution,
            "version": self.version,
            "requires": self.requires,
            "verdict": str(self.verdict),
            "reason": self.reason,
        }


def catalogue(group: str = DRIVERS_GROUP) -> list[CatalogueEntry]:
    """Every installed driver with the verdict on it, sorted by name. No driver is imported.

    ``HVCORE_DRIVERS``, a comma-separated list of names, blocks all others when it is set.
    """
    return installed(group)[group]


def installed(*groups: str) -> dict[str, list[CatalogueEntry]]:
    """`catalogue` of each of the groups, from one look at what is installed: most of its time goes into that."""
    try:
        points = metadata.entry_points()
        found = {group: [_entry(point) for point in points.select(group=group)] for group in groups}
    except Exception:  # noqa: BLE001 - one distribution with damaged metadata, of any project, and nobody gets anything
        found = _one_by_one(groups)
    return {group: _judged(entries) for group, entries in found.items()}


def _one_by_one(groups: Iterable[str]) -> dict[str, list[CatalogueEntry]]:
    """Entry points one distribution at a time, for a node where the metadata of one is damaged.

    That can be a distribution of any project. What it seems to declare is listed, so that it is missed by its name.
    """
    each = list(_distributions())
    return {group: [entry for found in each for entry in _entries_of(found, group)] for group in groups}


def _entries_of(found: metadata.Distribution, group: str) -> list[CatalogueEntry]:
    try:
        return [_entry(point) for point in found.entry_points if point.group == group]
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it is its own
        place = _place(found)
        reason = f"{place} cannot be read, got {type(error).__name__}: {error}; reinstall it"
        return [
            CatalogueEntry(
                name=name,
                target=target,
                distribution=os.path.basename(place).partition("-")[0].replace("_", "-"),
                version="unknown",
                requires="",
                verdict=Verdict.BROKEN,
                reason=reason,
            )
            for name, target in _seems_to_declare(found, group)
        ]


def _distributions() -> Iterator[metadata.Distribution]:
    # Each once, the first of a name on the path, as `metadata.entry_points` has them.
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


def _place(found: metadata.Distribution) -> str:
    # The directory with its metadata, by which alone it is known when that cannot be read.
    return str(getattr(found, "_path", "its metadata"))  # of nothing else that there is in public


def _seems_to_declare(found: metadata.Distribution, group: str) -> Iterator[tuple[str, str]]:
    """``(name, target)`` of each line that looks like an entry point of the group; nothing when there is no text at all."""
    text = _text(f"{_place(found)}/entry_points.txt")
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


def _entry(point: metadata.EntryPoint) -> CatalogueEntry:
    found = point.dist
    requires, verdict, reason = _fits(found.requires or () if found else (), __version__)
    known = found.metadata if found else None  # once: it is parsed anew for each question
    return CatalogueEntry(
        name=point.name,
        target=point.value,
        distribution=_field(known, "Name"),
        version=_field(known, "Version"),
        requires=requires,
        verdict=verdict,
        reason=reason,
    )


def _field(known: metadata.PackageMetadata | None, name: str) -> str:
    # A distribution whose metadata is damaged lacks it.
    return str(known[name]) if known is not None and name in known else "unknown"


def _judged(entries: Sequence[CatalogueEntry]) -> list[CatalogueEntry]:
    """Those of one group, with what only shows beside each other and on this node, sorted by name."""
    same_name: dict[str, list[CatalogueEntry]] = {}
    for entry in entries:
        same_name.setdefault(entry.name, []).append(entry)
    judged = (_judged_one(entry, same_name[entry.name]) for entry in entries)
    return sorted(judged, key=lambda entry: (entry.name, entry.distribution))


def _judged_one(entry: CatalogueEntry, same_name: list[CatalogueEntry]) -> CatalogueEntry:
    owners = sorted({f"{other.distribution} {other.version}" for other in same_name})
    if len(owners) > 1:
        reason = f"declared by {' and '.join(owners)}; uninstall all but one"
        return replace(entry, verdict=Verdict.DUPLICATE, reason=reason)
    allowed = os.environ.get("HVCORE_DRIVERS")
    if allowed is not None and entry.name.split(".", 1)[0] not in re.split(r"[\s,]+", allowed):
        return replace(entry, verdict=Verdict.BLOCKED, reason=f"not in HVCORE_DRIVERS={allowed!r}; add it there")
    return entry


def _fits(lines: Iterable[str], installed: str) -> tuple[str, Verdict, str | None]:
    """The range of hvcore that a distribution requires, such as ``<0.2,>=0.1``, and the verdict on it with the reason."""
    try:
        wanted = requirements.range_of("hvcore", lines)
    except ValueError as error:
        return "", Verdict.BROKEN, f"its requirement {str(error)!r} is not valid; report this to its authors"
    clause = requirements.unmet(wanted, installed)
    if clause is None:
        return str(wanted), Verdict.OK, None
    below = requirements.is_below(installed, clause)
    todo = "upgrade hvcore" if below else "upgrade the driver"
    reason = f"needs hvcore{wanted}, installed is {installed}; {todo}"
    return str(wanted), Verdict.TOO_NEW if below else Verdict.TOO_OLD, reason
