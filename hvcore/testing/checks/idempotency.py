"""Idempotency: a repeated operation succeeds, changes nothing, and reports that."""

from __future__ import annotations

from hvcore.model.state import State
from hvcore.testing.check import Bench, Failed, Level, Tier, check, require

__all__: tuple[str, ...] = ()

_CYCLES, _CYCLES_THOROUGH = 4, 25


@check(Level.MUST, Tier.LIVE)
def idem_stop_twice(bench: Bench) -> None:
    """A stop of an instance that does not exist or is stopped already succeeds and changes nothing.

    Why: A caller that lost the answer repeats the call. libvirt makes that an error, Kubernetes' runtimes a success;
    hvcore follows the latter.
    """
    require(not bench.stop().changed, "a stop of an unknown instance says that it changed something")
    bench.start()
    require(bench.stop().changed, "a stop says that it changed nothing")
    again = bench.stop()
    require(not again.changed, "a second stop says that it changed something")
    require(again.state is State.STOPPED, f"is {again.state} after a second stop")


@check(Level.MUST, Tier.LIVE)
def idem_start_running(bench: Bench) -> None:
    """A start of a running instance succeeds, changes nothing, and keeps its process.

    Why: A repeated start must not run a second guest on the same disk.
    """
    bench.start()
    before = (bench.record().process, bench.record().started_at)
    again = bench.start()
    require(not again.changed, "a second start says that it changed something")
    require((bench.record().process, bench.record().started_at) == before, "a second start has replaced the process")


@check(Level.MUST, Tier.LIVE)
def idem_lifecycle_x10(bench: Bench) -> None:
    """Start and stop work repeatedly under one name (thorough: 25 times). Nothing is left at the end.

    Why: The next start under the same name finds the leftovers of a stop. csi-sanity repeats its lifecycle for that
    reason.
    """
    for number in range(_CYCLES_THOROUGH if bench.thorough else _CYCLES):
        try:
            require(bench.start().changed, "changes nothing")
        except Failed as error:
            raise Failed(f"start {number + 1} under one name: {error}") from error
        bench.stop()
    bench.nothing_left("a series of cycles")
