"""Time: what each step may cost. The subject can replace a budget, and the reports show what is measured."""

from __future__ import annotations

import time
from collections.abc import Callable

from hvcore.errors import HvError
from hvcore.testing.bench import Bench
from hvcore.testing.check import Level, Skipped, Tier, check, require
from hvcore.testing.checks.methods import spec_of

__all__: tuple[str, ...] = ()

_TRIES = 3


def _within(bench: Bench, name: str, budget_s: float, took_s: float) -> None:
    budget_s = bench.subject.budgets.get(name, budget_s)
    require(took_s <= budget_s, f"takes {took_s * 1000:.1f} ms, budget {budget_s * 1000:.0f} ms")


def _best(act: Callable[[], object], clock: Callable[[], float], tries: int = _TRIES) -> float:
    """Seconds of the fastest of some tries: the node may be busy with something else."""
    times = []
    for _ in range(tries):
        began = clock()
        act()
        times.append(clock() - began)
    return min(times)


@check(Level.MUST, Tier.STATIC, why="A list of a thousand instances is checked while somebody waits for the page.")
def time_check(bench: Bench) -> None:
    """The check of an instance takes at most 5 ms of cpu, the best of ten."""
    instance = bench.instance()
    _within(bench, "time_check", 0.005, _best(lambda: bench.loaded.check(instance), time.process_time, 10))


@check(Level.MUST, Tier.STATIC, why="A plan is made at each start, and for every look at what a start would do.")
def time_render(bench: Bench) -> None:
    """Decision and plan take at most 20 ms of cpu once everything has been probed, the best of five."""
    instance = bench.instance()
    spec = spec_of(bench, instance)

    def work() -> None:
        bench.loaded.driver.describe(spec, bench.host)

    try:
        work()
    except HvError as error:
        raise Skipped(f"this node cannot describe it ({error})") from error
    _within(bench, "time_render", 0.02, _best(work, time.process_time, 5))


@check(
    Level.MUST,
    Tier.LIVE,
    why="From the command to a guest that runs is what a person feels, and what a node's restart is made of.",
)
def time_start(bench: Bench) -> None:
    """A start takes at most two seconds, the best of three."""

    def measured() -> float:
        began = time.monotonic()
        bench.start()
        took_s = time.monotonic() - began
        bench.stop()
        return took_s

    _within(bench, "time_start", 2.0, min(measured() for _ in range(_TRIES)))


@check(
    Level.MUST,
    Tier.LIVE,
    why="A hundred instances are looked at each second by whatever draws the graphs.",
)
def time_info(bench: Bench) -> None:
    """A look at an instance takes at most 50 ms, the best of five."""
    bench.start()
    _within(bench, "time_info", 0.05, _best(bench.info, time.monotonic, 5))


@check(
    Level.MUST,
    Tier.LIVE,
    why="What a stop adds to the guest's own shutdown is multiplied by all guests when a node goes down.",
)
def time_stop(bench: Bench) -> None:
    """A stop by force takes at most one second, the best of three."""

    def measured() -> float:
        bench.start()
        began = time.monotonic()
        bench.stop()
        return time.monotonic() - began

    _within(bench, "time_stop", 1.0, min(measured() for _ in range(_TRIES)))
