"""The clock of the checks that measure time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvcore.testing.check import seconds_of
from hvcore.testing.isolate import forked


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.heavy
@pytest.mark.skipif(not Path("/proc/thread-self/schedstat").exists(), reason="the kernel does not count waits")
def test_the_time_of_other_programs_does_not_count() -> None:
    def share_a_processor() -> tuple[float, float]:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
        try:
            began = time.monotonic()
            return seconds_of(lambda: burn(0.3)), time.monotonic() - began
        finally:
            for other in others:
                other.kill()
                other.wait()

    counted_s, took_s = forked(share_a_processor).result()
    assert took_s > 0.6
    assert 0.25 < counted_s < took_s - 0.25


def test_the_time_of_a_sleep_counts() -> None:
    assert seconds_of(lambda: time.sleep(0.05)) > 0.04
