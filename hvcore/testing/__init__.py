"""The conformance kit: prove that a driver does what the core, host applications and operators rely on.

``hv conformance DRIVER`` runs it on any node; `DriverContract` is the same as a pytest class. pytest is needed for the
latter only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hvcore.testing.check import Check, Failed, Level, Skipped, Tier
from hvcore.testing.checks import CHECKS
from hvcore.testing.report import Outcome, Report, Result, Versions
from hvcore.testing.run_checks import run, run_check, selected
from hvcore.testing.subject import CONFORMANCE_GROUP, Factory, Subject, find_subject, has_subject

if TYPE_CHECKING:
    from hvcore.testing.pytest_class import DriverContract

__all__ = [
    "CHECKS",
    "CONFORMANCE_GROUP",
    "Check",
    "DriverContract",
    "Factory",
    "Failed",
    "Level",
    "Outcome",
    "Report",
    "Result",
    "Skipped",
    "Subject",
    "Tier",
    "Versions",
    "find_subject",
    "has_subject",
    "run",
    "run_check",
    "selected",
]


def __getattr__(name: str) -> Any:
    """`DriverContract`, when it is asked for: pytest is imported then and not before."""
    if name == "DriverContract":
        from hvcore.testing.pytest_class import DriverContract  # noqa: PLC0415 - pytest may be missing

        return DriverContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
