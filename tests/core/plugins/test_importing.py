"""A plugin that hangs is given up; one that waits for a processor is not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest
from fixture_types import Eventually

from hvcore.errors import DriverLoadError
from hvcore.plugins.catalogue import CatalogueEntry, Verdict
from hvcore.plugins.importing import waited_s, within

ENTRY = CatalogueEntry(
    name="acme", target="hv_acme:X", distribution="hv-acme", version="1", requires="", verdict=Verdict.OK
)


def waits(*seconds: float) -> Callable[[threading.Thread], float]:
    """How long the thread has waited for a processor at each look; the last value repeats."""
    answers: Iterator[float] = chain(seconds[:-1], repeat(seconds[-1]))
    return lambda _: next(answers)


@pytest.mark.parametrize("waited", [(0.4,), (0.15, 0.3, 0.45)], ids=["at once", "bit by bit"])
def test_time_without_a_processor_does_not_count(waited: tuple[float, ...]) -> None:
    on = threading.Event()
    timer = threading.Timer(0.25, on.set)
    timer.start()
    assert within(0.15, "driver", ENTRY, lambda: on.wait(30), waited=waits(*waited))
    timer.join()


@pytest.mark.parametrize("waited", [(0.0,), (1e9,)], ids=["an idle node", "a busy node"])
def test_a_plugin_that_hangs_is_given_up(waited: tuple[float, ...]) -> None:
    """On the busiest node too, after four times the limit: an instance has to be stopped."""
    on = threading.Event()
    with pytest.raises(DriverLoadError, match=r"acme \(hv-acme 1\): did not finish loading within 0\.1 s"):
        within(0.1, "driver", ENTRY, lambda: on.wait(30), waited=waits(*waited))
    on.set()


def test_the_error_of_the_plugin_is_passed_on() -> None:
    def fails() -> None:
        raise DriverLoadError("it is broken")

    with pytest.raises(DriverLoadError, match="it is broken"):
        within(5, "driver", ENTRY, fails)


def test_a_thread_has_waited_some_time_and_one_that_has_ended_none(eventually: Eventually) -> None:
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    assert waited_s(threading.current_thread()) >= 0
    # The kernel removes a thread a moment after Python has joined it.
    eventually(lambda: not Path(f"/proc/self/task/{ended.native_id}").exists())
    assert waited_s(ended) == 0
    assert waited_s(threading.Thread()) == 0
