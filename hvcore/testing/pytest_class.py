"""The checks as a pytest class. Needs pytest: ``pip install hvcore[testing]``.

::

    import hvcore.testing

    class TestMyDriver(hvcore.testing.DriverContract):
        driver = "mine"

Tests the subject that the driver's distribution ships. A fixture ``subject`` in the class replaces it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from hvcore.testing.check import Check, Level, Tier
from hvcore.testing.report import Outcome
from hvcore.testing.run_checks import run_check, selected
from hvcore.testing.subject import Subject, find_subject

__all__ = ["DriverContract"]


class DriverContract:
    """Every check is one test of the subclass: ``test_conforms[NAME]``. Checks of the live tier are marked ``live``.

    ``level``, ``tier`` and the names in ``only`` select checks. With ``thorough``, checks that take samples try every
    case.
    """

    driver: ClassVar[str] = ""
    level: ClassVar[Level | None] = None
    tier: ClassVar[Tier | None] = None
    only: ClassVar[tuple[str, ...]] = ()
    thorough: ClassVar[bool] = False

    @pytest.fixture
    def subject(self) -> Subject:
        """The subject under test. Override this fixture for a subject that has no entry point."""
        return find_subject(self.driver)

    @classmethod
    def pytest_generate_tests(cls, metafunc: Any) -> None:
        """One test for each check."""
        if "check" not in metafunc.fixturenames:
            return
        known = any(line.split(":")[0].strip() == "live" for line in metafunc.config.getini("markers"))
        checks = [
            pytest.param(check, id=check.name, marks=[pytest.mark.live] if known and check.tier is Tier.LIVE else [])
            for check in selected(level=cls.level, tier=cls.tier, only=cls.only)
        ]
        metafunc.parametrize("check", checks)

    def test_conforms(self, check: Check, subject: Subject) -> None:
        """The driver passes the check."""
        result = run_check(check, subject, thorough=self.thorough)
        if result.outcome is Outcome.SKIPPED:
            pytest.skip(result.reason or "")
        if result.outcome is Outcome.FAILED:
            pytest.fail(f"{result.reason}\n\n{check.explain()}\n\n{result.detail}", pytrace=False)
