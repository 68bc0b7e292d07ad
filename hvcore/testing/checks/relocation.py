"""Moving to another run directory of the node, as to another node: alive if the driver can, else stopped and started."""

from __future__ import annotations

from hvcore.api.node import Node
from hvcore.model.state import State
from hvcore.testing.check import Bench, Level, Tier, check, require
from hvcore.testing.claims import claimed

__all__: tuple[str, ...] = ()


@check(Level.MUST, Tier.LIVE)
def life_moves(bench: Bench) -> None:
    """An instance moves to another run directory and back, and nothing of it is left where it was.

    Why: The core moves instances of every driver. One that starts only where it was made cannot leave a node that fails.
    """
    bench.start()
    bench.subject.ready(bench.node, bench.name())
    other = bench.node.beside(bench.directory / "other")
    try:
        _move(bench, bench.node, other)
        _move(bench, other, bench.node)
    finally:
        other.stop(bench.name(), force=True)


def _move(bench: Bench, source: Node, target: Node) -> None:
    name = bench.name()
    with claimed("migrate"):
        outcome = source.migrations.migrate(name, f"local:{target.run_dir}")
    require(outcome.moved, f"stays where it is: {outcome.why or outcome.notes}")
    left = [info.name for info in source.instances()]
    require(not left, f"has moved, and {', '.join(left)} is still there")
    found = target.info(name)
    require(found.state is State.RUNNING, f"is {found.state} after it has moved ({found.reason})")
