"""The results of a run of checks: a `Result` for each, and the `Report` with the versions of everything involved."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, field, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final
from xml.etree import ElementTree as ET

from hvcore._version import __version__
from hvcore.frozen import dataclass
from hvcore.plugins.catalogue import catalogue
from hvcore.testing.check import Check, Level, Tier

__all__ = ["REPORT_VERSION", "Outcome", "Report", "Result", "Versions", "versions_of"]

REPORT_VERSION: Final = 1


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One check with its outcome. ``reason`` says why it failed or was skipped, ``detail`` is the traceback for the author."""

    name: str
    area: str
    level: Level
    tier: Tier
    outcome: Outcome
    reason: str | None = None
    seconds: float = 0.0
    detail: str | None = None

    @classmethod
    def of(cls, check: Check, outcome: Outcome, **more: Any) -> Result:
        """The result of that check."""
        return cls(name=check.name, area=check.area, level=check.level, tier=check.tier, outcome=outcome, **more)

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON types."""
        words = {"level": str(self.level), "tier": str(self.tier), "outcome": str(self.outcome)}
        return {**asdict(self), **words, "seconds": round(self.seconds, 4)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """Versions of the driver's distribution, hvcore, Python, the kernel, and the programs that the driver uses."""

    distribution: str
    version: str
    hvcore: str = __version__
    python: str = field(default_factory=platform.python_version)
    kernel: str = field(default_factory=platform.release)
    machine: str = field(default_factory=platform.machine)
    programs: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The versions as plain JSON types."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"programs": dict(self.programs)}


def versions_of(driver: str, programs: Mapping[str, str]) -> Versions:
    """The versions on this node now."""
    found = [entry for entry in catalogue() if entry.name == driver]
    distribution, version = (found[0].distribution, found[0].version) if found else ("unknown", "unknown")
    return Versions(distribution=distribution, version=version, programs=programs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All results of one run on one driver. ``began`` is UTC and only a label."""

    driver: str
    capabilities: tuple[str, ...]
    versions: Versions
    results: tuple[Result, ...]
    thorough: bool
    seconds: float
    began: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def conforms(self) -> bool:
        """Whether no check failed."""
        return all(result.outcome is not Outcome.FAILED for result in self.results)

    @property
    def counts(self) -> dict[str, int]:
        """The number of checks with each outcome."""
        found = Counter(result.outcome for result in self.results)
        return {str(outcome): found[outcome] for outcome in Outcome}

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types, with stable keys."""
        return {
            "report": REPORT_VERSION,
            "driver": self.driver,
            "conforms": self.conforms,
            "capabilities": list(self.capabilities),
            "counts": self.counts,
            "thorough": self.thorough,
            "began": self.began,
            "seconds": round(self.seconds, 3),
            "versions": self.versions.to_json(),
            "checks": [result.to_json() for result in self.results],
        }

    def to_junit(self) -> str:
        """The report as JUnit XML for CI systems. Versions are properties of the suite."""
        counts = self.counts
        numbers = {"tests": len(self.results), "failures": counts["failed"], "errors": 0, "skipped": counts["skipped"]}
        suite = ET.Element("testsuite", name=f"hvcore.conformance.{self.driver}", timestamp=self.began)
        suite.attrib |= {key: str(number) for key, number in numbers.items()} | {"time": f"{self.seconds:.3f}"}
        properties = ET.SubElement(suite, "properties")
        flat = {**self.versions.to_json(), **{f"program {k}": v for k, v in self.versions.programs.items()}}
        for key, value in flat.items():
            if isinstance(value, str):
                ET.SubElement(properties, "property", name=key, value=value)
        for result in self.results:
            case = ET.SubElement(suite, "testcase", classname=f"{self.driver}.{result.area}", name=result.name)
            case.set("time", f"{result.seconds:.4f}")
            if result.outcome is not Outcome.PASSED:
                tag = "failure" if result.outcome is Outcome.FAILED else "skipped"
                ET.SubElement(case, tag, message=_xml_safe(result.reason or "")).text = _xml_safe(result.detail or "")
        return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _xml_safe(text: str) -> str:
    """The text with characters escaped that XML 1.0 does not allow."""
    return "".join(char if char in "\t\n" or char.isprintable() else f"\\x{ord(char):02x}" for char in text)
