"""The driver passes the conformance checks."""

from __future__ import annotations

from typing import Final

import pytest

import hvcore.testing

pytestmark = pytest.mark.heavy  # all checks of the kit


THOROUGH: Final = (
    *("crash_host_sigkill_start", "crash_host_sigkill_stop", "crash_interrupted_start", "crash_disk_full"),
    "idem_lifecycle_x10",
)
# Of these also the samples are slow: run/test_crash.py has samples of the same, at system calls.
SLOW: Final = ("crash_host_sigkill_start", "crash_host_sigkill_stop", "crash_interrupted_start")


class TestChroot(hvcore.testing.DriverContract):
    """Every check of the kit that is not slow."""

    driver = "chroot"
    only = tuple(check.name for check in hvcore.testing.CHECKS if check.name not in SLOW)


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestChrootThorough(hvcore.testing.DriverContract):
    """A crash at every change that a start and a stop make, and many cycles."""

    driver = "chroot"
    thorough = True
    only = THOROUGH
