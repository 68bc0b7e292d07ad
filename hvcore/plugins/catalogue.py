"""The installed drivers, found in the metadata of distributions, without importing any of them.

So a driver that is broken or incompatible is listed too, with the reason, and does not slow down the others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from enum import StrEnum
from importlib import metadata
from typing import Any, Final

from hvcore._version import __version__
from hvcore.frozen import dataclass
from hvcore.model.names import DRIVER_PATTERN
from hvcore.plugins import requirements

__all__ = ["DRIVERS_GROUP", "EXTENSIONS_GROUP", "CatalogueEntry", "Verdict", "catalogue", "installed"]

DRIVERS_GROUP: Final = "hvcore.drivers"
EXTENSIONS_GROUP: Final = "hvcore.extensions"


class Verdict(StrEnum):
    """Whether a driver can be used. Most drivers turn out to be ``broken`` only at their import."""

    OK = "ok"
    TOO_OLD = "too-old"
    TOO_NEW = "too-new"
    DUPLICATE = "duplicate"
    BLOCKED = "blocked"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """One installed driver or extension. ``requires`` is the range of hvcore that its distribution requires."""

    name: str
    target: str
    distribution: str
    version: str
    requires: str
    verdict: Verdict
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as plain JSON types."""
        return {**asdict(self), "verdict": str(self.verdict)}


def catalogue(group: str = DRIVERS_GROUP) -> list[CatalogueEntry]:
    """Every installed driver with its verdict, sorted by name. No driver is imported.

    ``HVCORE_DRIVERS``, a comma-separated list of names, blocks all other drivers if it is set.
    """
    return installed(group)[group]


def installed(*groups: str) -> dict[str, list[CatalogueEntry]]:
    """`catalogue` of each of the groups, from one scan of the distributions, which takes most of the time.

    Each distribution is read on its own. Damage in one, of any project, would break `metadata.entry_points` for all.
    """
    found: dict[str, list[CatalogueEntry]] = {group: [] for group in groups}
    for one in _distributions():
        if _may_declare(one, groups):
            for group, entry in _entries_of(one, groups):
                found[group].append(entry)
    return {group: _with_verdicts(entries) for group, entries in found.items()}


def _distributions() -> Iterator[metadata.Distribution]:
    # The first of each name on the path, as in `metadata.entry_points`.
    seen = set()
    for found in metadata.distributions():
        key = requirements.canonical_name(_name_on_path(found))
        if key not in seen:
            seen.add(key)
            yield found


def _name_on_path(found: metadata.Distribution) -> str:
    """The name in the path of the metadata; without one, the name in the metadata, which takes longer to read."""
    stem, kind = os.path.splitext(os.path.basename(_place(found)))
    if kind in (".dist-info", ".egg-info"):
        return stem.partition("-")[0]
    try:
        return str(found.metadata["Name"] if "Name" in found.metadata else id(found))
    except Exception:  # noqa: BLE001 - it cannot be read, so it has no name that could occur twice
        return str(id(found))


def _may_declare(found: metadata.Distribution, groups: Sequence[str]) -> bool:
    # Parsing the entry points of all distributions takes several times as long.
    try:
        text = found.read_text("entry_points.txt") or ""
    except Exception:  # noqa: BLE001 - what cannot be read is looked at again, and then reported
        return True
    return any(group in text for group in groups)


def _entries_of(found: metadata.Distribution, groups: Sequence[str]) -> Iterator[tuple[str, CatalogueEntry]]:
    """The entries of one distribution with their groups."""
    try:
        points = [point for point in found.entry_points if point.group in groups]
        yield from [(point.group, _entry(point, found)) for point in points]
    except Exception as error:  # noqa: BLE001 - reported as the fault of this distribution
        place = _place(found)
        reason = f"{place} cannot be read, got {type(error).__name__}: {error}; reinstall it"
        for group in groups:
            for name, target in _seems_to_declare(found, group):
                yield (
                    group,
                    CatalogueEntry(
                        name=name,
                        target=target,
                        distribution=os.path.basename(place).partition("-")[0].replace("_", "-"),
                        version="unknown",
                        requires="",
                        verdict=Verdict.BROKEN,
                        reason=reason,
                    ),
                )


def _place(found: metadata.Distribution) -> str:
    # The directory with its metadata, the only way to identify it if that cannot be read. No public name has it.
    return str(getattr(found, "_path", "its metadata"))


def _seems_to_declare(found: metadata.Distribution, group: str) -> Iterator[tuple[str, str]]:
    """``(name, target)`` of each line that looks like an entry point of the group."""
    text = ""
    with (
        suppress(OSError),
        open(f"{_place(found)}/entry_points.txt", encoding="utf-8", errors="backslashreplace") as file,
    ):
        text = file.read()
    section = re.search(rf"^\s*\[{re.escape(group)}\]?\s*$(.*?)(?=^\s*\[|\Z)", text, re.MULTILINE | re.DOTALL)
    for line in section[1].splitlines() if section else ():
        name, _, target = (part.strip() for part in line.partition("="))
        if name and not name.startswith("#"):
            yield name, target


def _entry(point: metadata.EntryPoint, found: metadata.Distribution) -> CatalogueEntry:
    known = found.metadata  # each access parses it again, and so does `requires`
    requires, verdict, reason = _fits(known.get_all("Requires-Dist") or found.requires or (), __version__)
    return CatalogueEntry(
        name=point.name,
        target=point.value,
        distribution=_field(known, "Name"),
        version=_field(known, "Version"),
        requires=requires,
        verdict=verdict,
        reason=reason,
    )


def _field(known: metadata.PackageMetadata, name: str) -> str:
    # Damaged metadata may lack the field.
    return str(known[name]) if name in known else "unknown"


def _with_verdicts(entries: Sequence[CatalogueEntry]) -> list[CatalogueEntry]:
    """The entries of one group, sorted by name, with the verdicts that depend on other entries and on this node."""
    same_name: dict[str, list[CatalogueEntry]] = {}
    for entry in entries:
        same_name.setdefault(entry.name, []).append(entry)
    found = (_with_verdict(entry, same_name[entry.name]) for entry in entries)
    return sorted(found, key=lambda entry: (entry.name, entry.distribution))


def _with_verdict(entry: CatalogueEntry, same_name: list[CatalogueEntry]) -> CatalogueEntry:
    owners = sorted({f"{other.distribution} {other.version}" for other in same_name})
    if len(owners) > 1:
        reason = f"declared by {' and '.join(owners)}; uninstall all but one"
        return replace(entry, verdict=Verdict.DUPLICATE, reason=reason)
    if not re.fullmatch(rf"{DRIVER_PATTERN}(\..*)?", entry.name):
        what = f"its entry point is not named like a driver, got {entry.name!r}"
        return replace(entry, verdict=Verdict.BROKEN, reason=f"{what}; use a-z, 0-9, '-' and '_', as in 'my-driver'")
    allowed = os.environ.get("HVCORE_DRIVERS")
    if allowed is not None and entry.name.split(".", 1)[0] not in re.split(r"[\s,]+", allowed):
        return replace(entry, verdict=Verdict.BLOCKED, reason=f"not in HVCORE_DRIVERS={allowed!r}; add it there")
    return entry


def _fits(lines: Iterable[str], installed: str) -> tuple[str, Verdict, str | None]:
    """The range of hvcore that a distribution requires, such as ``<0.2,>=0.1``, the verdict on it, and the reason."""
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
