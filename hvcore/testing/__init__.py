"""The conformance kit: checks that a driver does what the core, host applications and operators rely on.

``hv conformance DRIVER`` runs the checks on any node. `DriverContract` is a pytest class with the same checks; only this
class needs pytest.
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
    """Import `DriverContract` at its first use, and pytest with it."""
    if name == "DriverContract":
        from hvcore.testing.pytest_class import DriverContract  # noqa: PLC0415 - pytest may be missing

        return DriverContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
