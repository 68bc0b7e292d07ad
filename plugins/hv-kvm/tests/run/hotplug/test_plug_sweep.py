"""The caller is killed at the system calls of an attach and of a detach. Recovery settles the change.

After it, at most one more detach leaves nothing of the disk.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from killed_calls import Point, killed_at, points
from world import World

import hvcore
from hv_kvm.qmp import plugging, reach
from hvcore import Disk, State

pytestmark = [pytest.mark.live, pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: ./dev setup")]

_SAMPLE = 8
_PATIENCE_S = 300.0


class Plugging:
    """One guest that lets devices go, and a disk for it."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.start(paused=True, disks=[world.disk(lets_go=True)])
        world.booted()
        self.disk = Disk(path=world.disk("more.img"))
        self.at_first = self.seen()

    def attach(self) -> hvcore.Outcome:
        return self.world.node.attach("web1", self.disk, deadline_s=_PATIENCE_S)

    def detach(self) -> hvcore.Outcome:
        return self.world.node.detach("web1", "disk1", deadline_s=_PATIENCE_S)

    def seen(self) -> dict[str, Any]:
        """What the record and QEMU say, and who has reserved the disk."""
        record = self.world.record()
        with reach(self.world.dir(), 30.0) as client:
            in_qemu = (
                sorted(plugging.devices(client)),
                sorted(node for node in plugging.block_nodes(client) if not node.startswith("#")),
                sorted(plugging.fdsets(client)),
            )
        reserved = sorted(path.name for path in (self.world.run_dir / "reservations" / "disk").iterdir())
        return {
            "phase": record.phase,
            "change": record.change,
            "instance": record.instance,
            "devices": record.devices,
            "ledger": [entry.key for entry in record.ledger],
            "qemu": in_qemu,
            "reserved": reserved,
        }

    def settled(self) -> str | None:
        """Recover, and detach the disk if it is there; what differs from the beginning."""
        for found in self.world.node.recover():
            if found.what == "failed":
                return f"recovery failed: {found.detail}"
        if self.world.info().state is not State.RUNNING:
            return f"is {self.world.info().state}"
        if "disk1" in self.world.info().devices:
            self.detach()
        now = self.seen()
        wrong = {key: (now[key], self.at_first[key]) for key in now if now[key] != self.at_first[key]}
        return f"differs: {wrong}" if wrong else None


def sweep(plug: Plugging, chosen: list[Point], act: Callable[[], object], before: Callable[[], object]) -> Counter[str]:
    outcomes: Counter[str] = Counter()
    failures = []
    for point in chosen:
        before()
        outcomes["killed" if killed_at(point, act) else "not reached"] += 1
        wrong = plug.settled()
        if wrong is not None:
            failures.append(f"{point}: {wrong}")
    assert failures == []
    return outcomes


def acts(plug: Plugging) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    return {"attach": (plug.attach, lambda: None), "detach": (plug.detach, plug.attach)}


def chosen(plug: Plugging, op: str) -> list[Point]:
    act, before = acts(plug)[op]
    before()
    found = points(act, plug.world.root)
    assert plug.settled() is None
    assert len(found) > 20, found
    return found


@pytest.mark.parametrize("op", ["attach", "detach"])
def test_a_caller_killed_at_some_calls_leaves_a_change_that_recovery_settles(world: World, op: str) -> None:
    plug = Plugging(world)
    every = chosen(plug, op)
    sweep(plug, every[:: len(every) // _SAMPLE], *acts(plug)[op])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("op", ["attach", "detach"])
def test_a_caller_killed_at_any_call_leaves_a_change_that_recovery_settles(
    world: World, op: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plug = Plugging(world)
    every = chosen(plug, op)
    outcomes = sweep(plug, every, *acts(plug)[op])
    with capsys.disabled():
        sys.stdout.write(f"\n  {op}: killed at {len(every)} calls: {dict(outcomes)}\n")
