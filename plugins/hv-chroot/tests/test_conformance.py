"""The driver passes the conformance checks."""

from __future__ import annotations

import pytest

import hvcore.testing

pytestmark = pytest.mark.heavy  # all checks of the kit


class TestChroot(hvcore.testing.DriverContract):
    """Every check of the kit."""

    driver = "chroot"


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestChrootThorough(hvcore.testing.DriverContract):
    """A crash at every change that a start and a stop make, and many cycles."""

    driver = "chroot"
    thorough = True
    only = (
        *("crash_host_sigkill_start", "crash_host_sigkill_stop", "crash_interrupted_start", "crash_disk_full"),
        "idem_lifecycle_x10",
    )
