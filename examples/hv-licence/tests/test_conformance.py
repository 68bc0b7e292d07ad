"""Driver kvm still conforms with this extension installed: load, contract, schema, rendering. Starts nothing."""

from __future__ import annotations

import pytest

from hvcore.testing import DriverContract, Subject, Tier, find_subject


class TestConformance(DriverContract):
    """``tier = None`` runs the checks that start instances too."""

    driver = "kvm"
    tier = Tier.STATIC

    @pytest.fixture
    def subject(self) -> Subject:
        """The one that the driver's own distribution ships."""
        return find_subject(self.driver)
