"""Time: the budget of each step. The subject can replace a budget. Reports show the measured time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from hvcore.errors import HvError
from hvcore.host.processes.process import waited_s
from hvcore.testing.check import Bench, Failed, Level, Skipped, Tier, check, seconds_of, undelayed
from hvcore.testing.checks.methods import spec_of

__all__: tuple[str, ...] = ()


def _within(bench: Bench, name: str, budget_s: float, measured: Callable[[], float], tries: int) -> None:
    """One of the tries has to take no longer, because the node may be busy. The first that does is the last."""
    budget_s, best_s = bench.subject.budgets.get(name, budget_s), math.inf
    for _ in range(tries):
        best_s = min(best_s, measured())
        if best_s <= budget_s:
            return
    raise Failed(f"takes {best_s * 1000:.1f} ms, budget {budget_s * 1000:.0f} ms")


def _timed(act: Callable[[], object], clock: Callable[[], float]) -> Callable[[], float]:
    def measured() -> float:
        began = clock()
        act()
        return clock() - began

    return measured


@check(Level.MUST, Tier.STATIC)
def time_check(bench: Bench) -> None:
    """Checking an instance takes at most 5 ms of CPU, one of ten tries.

    Why: A host application checks a list of a thousand instances while its user waits for the page.
    """
    instance = bench.instance()
    _within(bench, "time_check", 0.005, _timed(lambda: bench.loaded.check(instance), time.process_time), 10)


@check(Level.MUST, Tier.STATIC)
def time_render(bench: Bench) -> None:
    """Decision and plan take at most 20 ms of CPU once everything has been probed, one of five tries.

    Why: Every start makes a plan, and so does every preview of a start.
    """
    instance = bench.instance()
    spec = spec_of(bench, instance)

    def work() -> None:
        bench.loaded.driver.describe(spec, bench.host)

    try:
        work()
    except HvError as error:
        raise Skipped(f"this node cannot describe it ({error})") from error
    _within(bench, "time_render", 0.02, _timed(work, time.process_time), 5)


@check(Level.MUST, Tier.LIVE)
def time_start(bench: Bench) -> None:
    """A start takes at most two seconds, one of six tries, without waits of its processes for a processor.

    Why: A user waits from the command until the guest runs. Restarting a node multiplies this time by its guests.
    """

    def measured() -> float:
        took_s = seconds_of(bench.start)
        delay_s = max((waited_s(str(process.pid)) for process in bench.processes()), default=0.0)
        bench.stop()
        return took_s - delay_s

    _within(bench, "time_start", 2.0, measured, 6)


@check(Level.MUST, Tier.LIVE)
def time_info(bench: Bench) -> None:
    """Observing an instance takes at most 50 ms, one of five tries.

    Why: A monitoring program observes a hundred instances each second.
    """
    bench.start()
    _within(bench, "time_info", 0.05, _timed(bench.info, undelayed), 5)


@check(Level.MUST, Tier.LIVE)
def time_stop(bench: Bench) -> None:
    """A stop by force takes at most one second, one of six tries.

    Why: At the shutdown of a node, the time that a stop adds to the guest's own shutdown is multiplied by the number of
    guests.
    """

    def measured() -> float:
        bench.start()
        return seconds_of(bench.stop)

    _within(bench, "time_stop", 1.0, measured, 6)
