"""Every check of hvcore's conformance kit is a test here; a failure says why the check is there."""

from __future__ import annotations

from hvcore.testing import DriverContract


class TestConformance(DriverContract):
    """Choose some with ``-k life_full_cycle``; those that start processes are marked ``live``."""

    driver = "process"
