"""The driver does what is asked of one."""

from __future__ import annotations

import hvcore.testing


class TestKvm(hvcore.testing.DriverContract):
    """Every check of the kit."""

    driver = "kvm"
