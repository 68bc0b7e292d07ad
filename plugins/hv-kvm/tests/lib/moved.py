"""The two nodes of a migration, with the steps that the core would do there."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from typing import Any

from world import PATIENCE_S, World

import hvcore
from hvcore.deadline import Deadline
from hvcore.model.record import Phase, Record
from hvcore.state.job import Job

OVER = frozenset({hvcore.TransferState.COMPLETED, hvcore.TransferState.FAILED, hvcore.TransferState.CANCELLED})


class Side:
    """One node, and the guest web1 there."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.context: Any = world.node._context
        self.loaded = self.context.driver("kvm")

    def job(self, record: Record | None = None, *, arriving: bool = False, deadline_s: float = PATIENCE_S) -> Job:
        """An operation on web1, whose record is made if one is given."""
        host = replace(self.context.host, arriving=arriving)
        if record is not None:
            self.context.store.create("web1")
        found = record or self.context.store.load("web1")
        job: Job = replace(self.context, host=host).job(found, Deadline(deadline_s), self.loaded)
        job.update()
        return job

    def offer(self) -> hvcore.Offer:
        """What the guest says of itself, as JSON and back."""
        return hvcore.Offer.from_json(self.loaded.offer(self.job().live).to_json())

    def refusals(self, offer: hvcore.Offer, *, arriving: bool = True, **wish: Any) -> list[str]:
        """Why this node does not take it."""
        host = replace(self.context.host, arriving=arriving)
        spec = self.loaded.read_spec(offer.spec)
        asked = hvcore.LandingWish(job="j1", **wish)
        found = [*self.loaded.driver.verify(spec, host), *self.loaded.refusals(spec, host, offer, asked)]
        return [str(problem) for problem in found]

    def land(
        self, source: Side, *, job: str = "j1", spec: Any = None, arriving: bool = True, **wish: Any
    ) -> hvcore.Landing:
        """Have the guest of the source land here."""
        given, offer = source.job().record, source.offer()
        asked = hvcore.LandingWish(job=job, **{"host": "127.0.0.1", "port": 0, **wish})
        fresh = replace(given, phase=Phase.STARTING, bindings={}, ledger=(), process=None, monitor=None)
        doing = self.job(fresh, arriving=arriving)
        with closing(doing.held):
            landing = self.loaded.land(spec or self.loaded.read_spec(offer.spec), doing, offer, asked)
            assert self.loaded.land(self.loaded.read_spec(offer.spec), doing, offer, asked) == landing
            doing.update()
        return hvcore.Landing.from_json(landing.to_json())

    def does(self, method: str, *given: Any, deadline_s: float = PATIENCE_S, **changes: Any) -> None:
        """Call a method of the driver as the core does."""
        job = self.job(deadline_s=deadline_s)
        with closing(job.held):
            getattr(self.loaded if hasattr(self.loaded, method) else self.loaded.driver, method)(job.live, job, *given)
            job.update(**changes)

    def send(self, landing: hvcore.Landing, mode: str = "live", **tuning: Any) -> None:
        """Begin the transfer."""
        self.does("send", landing, mode, hvcore.Tuning(**tuning))

    def transfer(self) -> hvcore.Transfer:
        """How far it is."""
        found: hvcore.Transfer = self.loaded.transfer(self.job().live)
        return found

    def until(self, states: Collection[hvcore.TransferState] = OVER) -> hvcore.Transfer:
        """The transfer, as soon as it has one of the states."""
        give_up = time.monotonic() + PATIENCE_S
        while (found := self.transfer()).state not in states:
            assert time.monotonic() < give_up, found
        return found

    def run_landed(self) -> None:
        """Let it run, and make its record an ordinary one."""
        self.does("run_landed", phase=Phase.RUNNING)

    def end(self) -> None:
        """End the guest here, if it is here."""
        self.world.node.stop("web1", force=True)


def move(source: Side, target: Side, mode: str = "live", **wish: Any) -> None:
    """Move the guest; it ends on the source."""
    landing = target.land(source, mode=mode, **wish)
    source.send(landing if landing.host else replace(landing, host="127.0.0.1"), mode)
    found = source.until()
    assert found.state is hvcore.TransferState.COMPLETED, (found, target.transfer())
    target.until()
    target.run_landed()
    source.end()
