"""The driver passes the conformance checks."""

from __future__ import annotations

import pytest

import hvcore.testing

pytestmark = pytest.mark.heavy  # all checks of the kit


class TestFake(hvcore.testing.DriverContract):
    """Every check of the kit."""

    driver = "fake"
