"""Idempotency: doing it again is fine, changes nothing, and says so."""

from __future__ import annotations

from hvcore.model.state import State
from hvcore.testing.bench import Bench
from hvcore.testing.check import Failed, Level, Tier, check, require

__all__: tuple[str, ...] = ()

_CYCLES, _CYCLES_THOROUGH = 4, 25


@check(
    Level.MUST,
    Tier.LIVE,
    why="Whoever lost an answer asks again. libvirt makes that an error, Kubernetes' runtimes a success; hvcore follows "
    "the latter.",
)
def idem_stop_twice(bench: Bench) -> None:
    """A stop of what is not there, and of what was stopped before, succeeds and changes nothing."""
    require(not bench.stop().changed, "a stop of an unknown instance says that it changed something")
    bench.start()
    require(bench.stop().changed, "a stop says that it changed nothing")
    again = bench.stop()
    require(not again.changed, "a second stop says that it changed something")
    require(again.state is State.STOPPED, f"is {again.state} after a second stop")


@check(
    Level.MUST,
    Tier.LIVE,
    why="A start that is repeated must not make a second guest on one disk.",
)
def idem_start_running(bench: Bench) -> None:
    """A start of what runs succeeds, changes nothing, and leaves the process that was there."""
    bench.start()
    before = (bench.record().process, bench.record().started_at)
    again = bench.start()
    require(not again.changed, "a second start says that it changed something")
    require((bench.record().process, bench.record().started_at) == before, "a second start has started it anew")


@check(
    Level.MUST,
    Tier.LIVE,
    why="What a stop leaves behind is found by the next start under the same name. csi-sanity repeats its lifecycle for "
    "that reason.",
)
def idem_lifecycle_x10(bench: Bench) -> None:
    """Start and stop again and again under one name (thorough: 25 times); nothing is left in the end."""
    for number in range(_CYCLES_THOROUGH if bench.thorough else _CYCLES):
        try:
            require(bench.start().changed, "changes nothing")
        except Failed as error:
            raise Failed(f"start {number + 1} under one name: {error}") from error
        bench.stop()
    bench.nothing_left("one cycle after the other")
