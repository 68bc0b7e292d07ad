"""Concurrency: several threads of one program work on one instance, or on many."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from functools import partial

from hvcore.errors import BusyError, HvError, StateError
from hvcore.model.state import State
from hvcore.plugins.protocols import Pausable
from hvcore.testing.check import PATIENCE_S, Bench, Level, Tier, check, require, seconds_of

__all__: tuple[str, ...] = ()

_THREADS, _ROUNDS, _MANY = 4, 10, 6
_ALLOWED = (BusyError, StateError)


def _together(works: list[Callable[[], object]]) -> list[str]:
    """Run the works in threads at the same time. Returns the errors that they raised, in words."""
    wrong: list[str] = []
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> None:
        gate.wait()
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the check looks for any error
            wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


@check(Level.MUST, Tier.LIVE)
def conc_same_instance(bench: Bench) -> None:
    """Threads start, observe, pause and stop one instance at random: they get only busy and state errors, and the end is legal.

    Why: A web interface has a button, and people press it twice. Of two operations on one instance, one waits or is
    refused as busy. Neither sees the other half done.
    """
    name, instance, handle = bench.name(), bench.instance(), bench.handle
    acts: list[Callable[[], object]] = [
        lambda: handle.start(instance, deadline_s=PATIENCE_S),
        lambda: bench.node.stop(name, force=True, deadline_s=PATIENCE_S),
        bench.node.instances,
    ]
    if isinstance(bench.loaded.driver, Pausable):
        acts += [lambda: bench.node.pause(name), lambda: bench.node.resume(name)]
    bench.start()

    def some(seed: int) -> None:
        for act in random.Random(seed).choices(acts, k=_ROUNDS):  # noqa: S311 - which operations, the same each time
            _tolerated(act)

    wrong = _together([partial(some, seed) for seed in range(_THREADS)])
    require(not wrong, f"operations at the same time raise {wrong[:1]}")
    states = [info.state for info in bench.node.instances()]
    require(set(states) <= {State.RUNNING, State.PAUSED}, f"is {states} after operations at the same time")
    bench.stop()
    bench.nothing_left("operations at the same time")


def _tolerated(act: Callable[[], object]) -> None:
    try:
        act()
    except _ALLOWED:
        pass
    except HvError as error:
        if error.exit_code != 4:  # not found: another thread has stopped it
            raise


@check(Level.MUST, Tier.LIVE)
def conc_many_instances(bench: Bench) -> None:
    """Six instances start at the same time and stop at the same time: all run, each in its own process.

    Why: After a power cut a node starts everything at once. A driver that picks a free port or device name without
    reserving it picks the same one twice.
    """
    labels = [f"many{number}" for number in range(_MANY)]
    instances, handle = [bench.instance(label) for label in labels], bench.handle
    wrong = _together([partial(handle.start, instance, deadline_s=PATIENCE_S) for instance in instances])
    require(not wrong, f"starts at the same time fail: {wrong[:1]}")
    infos = bench.node.instances()
    took_s = seconds_of(bench.node.instances)
    states = {info.state for info in infos}
    require(
        len(infos) == _MANY and states == {State.RUNNING}, f"{len(infos)} of {_MANY} exist, in states {sorted(states)}"
    )
    pids = [info.pid for info in infos if info.pid is not None]
    require(len(pids) == len(set(pids)), "two instances share one process")
    require(took_s < 2.0, f"listing {_MANY} instances takes {took_s:.1f} s")
    wrong = _together([partial(bench.stop, label) for label in labels])
    require(not wrong, f"stops at the same time fail: {wrong[:1]}")
    bench.nothing_left("stopping all at the same time")
