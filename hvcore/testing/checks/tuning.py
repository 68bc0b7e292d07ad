"""Abilities that change or measure a running instance: those that the driver claims work, the others are refused."""

from __future__ import annotations

from hvcore.model.state import State
from hvcore.plugins.protocols import Measures
from hvcore.testing.check import PATIENCE_S, Bench, Level, Skipped, Tier, check, require

__all__: tuple[str, ...] = ()


@check(Level.CAPABILITY, Tier.LIVE)
def capability_usage(bench: Bench) -> None:
    """Claimed: the usage of each running instance comes without a problem, and its counters only grow.

    Why: Monitoring asks every few seconds for all instances. An answer that belongs to another instance, or a counter that
    goes back, makes every graph of the node wrong.
    """
    if not isinstance(bench.loaded.driver, Measures):
        raise Skipped("it does not claim usage: the node measures its processes and control groups")
    bench.start()
    bench.start("web2")
    names = sorted([bench.name(), bench.name("web2")])
    before = bench.node.usage(deadline_s=PATIENCE_S)
    after = bench.node.usage(deadline_s=PATIENCE_S)
    for found in (before, after):
        require([one.name for one in found] == names, f"measures {[one.name for one in found]}, not {names}")
        for one in found:
            require(one.problem is None, f"cannot measure a running instance: {one.problem}")
    for one, later in zip(before, after, strict=True):
        grown = (one.cpu_seconds or 0.0) <= (later.cpu_seconds or 0.0)
        require(grown, f"its processor time goes back, from {one.cpu_seconds} to {later.cpu_seconds} s")
        counted = {disk.disk: disk for disk in later.disks}
        for disk in one.disks:
            same = counted.get(disk.disk)
            require(same is not None and same.read_bytes >= disk.read_bytes, f"the counters of {disk.disk} go back")
    require(bench.info().state is State.RUNNING, f"is {bench.info().state} after it was measured")
