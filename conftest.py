"""What all tests take for granted of the process that they run in."""

from __future__ import annotations

import gc
import re
import signal
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# `./dev test &` in a script, and nohup, hand on ignored signals, and each program that a test starts would have them
# ignored as well: those that a test interrupts would go on.
for _signum, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _default)

# How long an example takes says how busy the machine is, and nothing of the code. `./dev test --slow` generates more
# examples: --hypothesis-profile=many.
for _profile, _examples in (("few", 30), ("many", 200)):
    settings.register_profile(
        _profile, deadline=None, max_examples=_examples, suppress_health_check=[HealthCheck.too_slow]
    )
settings.load_profile("few")

# Of a module without one of these, `-m live` and `-m slow` select nothing.
_SAYS: Final = {"live": re.compile(r"mark\.live|DriverContract"), "slow": re.compile(r"mark\.slow|DriverContract")}

# A module of which each test is live: without live tests it is not even imported.
_ALL_LIVE: Final = re.compile(r"^pytestmark = (?:\[[^\]]*)?pytest\.mark\.live\b", re.MULTILINE)

# Collecting makes a million objects that live to the end. The collector would look at them again and again: a fifth of
# the time of a collection, and some of each test.
gc.disable()


def pytest_collection_finish() -> None:
    """Garbage collection is for what the tests make."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _lacks(path: Path, mark: str) -> bool:
    return not _SAYS[mark].search(path.read_text(encoding="utf-8"))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the modules without a test that the marks select: for the live tests two thirds of them, in each process."""
    marks = str(config.getoption("markexpr"))
    if not collection_path.name.startswith("test_"):
        return None
    if marks.startswith("not live and"):
        return bool(_ALL_LIVE.search(collection_path.read_text(encoding="utf-8"))) or None
    mark = marks.partition(" ")[0]
    return (mark in _SAYS and _lacks(collection_path, mark)) or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A module whose tests get such a mark from elsewhere would be skipped by `pytest_ignore_collect`."""
    marked = {(item.path, mark) for item in items for mark in _SAYS if item.get_closest_marker(mark)}
    wrong = sorted(f"{path}: write pytest.mark.{mark} in it" for path, mark in marked if _lacks(path, mark))
    if wrong:
        raise pytest.UsageError("\n".join(wrong))
