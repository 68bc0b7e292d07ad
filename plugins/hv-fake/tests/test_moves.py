"""Instances that move between two run directories: what tests of the core rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import hvcore
from hv_fake.plugin import FakeDriver
from hvcore.deadline import Deadline
from hvcore.model.record import Phase, Record
from hvcore.state.job import Job


class Side:
    """One of the two: a node, and the jobs that the core would have there."""

    def __init__(self, run_dir: Path) -> None:
        self.node = hvcore.Node(run_dir)
        self.context: Any = self.node._context
        self.loaded = self.context.driver("fake")
        self.driver: Any = self.loaded.driver
        assert isinstance(self.driver, FakeDriver)

    def job(self, record: Record | None = None) -> Job:
        """A job on web1, whose record is made if one is given."""
        if record is not None:
            self.context.store.create("web1")
        found = record or self.context.store.load("web1")
        job: Job = self.context.job(found, Deadline(10), self.loaded)
        job.update()
        return job

    def land(self, source: Side, mode: str = "live", **wish: Any) -> hvcore.Landing:
        """Have web1 of the source land here."""
        given = source.job().record
        offer = hvcore.Offer.from_json(source.loaded.offer(source.job().live).to_json())
        spec = self.loaded.read_spec(offer.spec)
        asked = hvcore.LandingWish(job="j1", mode=mode, **wish)
        assert not self.loaded.refusals(spec, self.node._context.host, offer, asked)
        job = self.job(replace(given, phase=Phase.STARTING, bindings={}, ledger=()))
        landing = self.loaded.land(spec, job, offer, asked)
        job.update()
        return hvcore.Landing.from_json(landing.to_json())

    def does(self, method: str, *given: Any) -> None:
        """Call a method of the driver as the core does."""
        job = self.job()
        getattr(self.loaded, method)(job.live, job, *given)
        job.update()

    def transfer(self) -> hvcore.Transfer:
        """How far it is."""
        found: hvcore.Transfer = self.loaded.transfer(self.job().live)
        return found

    def saved(self) -> dict[str, Any]:
        """The bindings of web1."""
        return dict(self.job().record.bindings)


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    """A node with web1, and one without."""
    source, target = Side(tmp_path / "one"), Side(tmp_path / "other")
    source.node.driver("fake").start(hvcore.Instance(name="web1", driver="fake", params={"motd": "moves"}))
    yield source, target
    for side in (source, target):
        side.node.stop("web1", force=True)


def test_an_instance_waits_arrives_and_runs(sides: tuple[Side, Side]) -> None:
    source, target = sides
    landing = target.land(source)
    assert target.transfer() == hvcore.Transfer(state=hvcore.TransferState.WAITING)
    source.does("send", landing, "live", hvcore.Tuning())
    assert [side.transfer().state for side in sides] == [hvcore.TransferState.COMPLETED] * 2
    assert [side.transfer().cpus_run for side in sides] == [False, False]
    target.does("run_landed")
    assert [side.transfer().cpus_run for side in sides] == [False, True]


def test_a_cancelled_one_stays(sides: tuple[Side, Side]) -> None:
    source, target = sides
    source.does("send", target.land(source, "postcopy"), "postcopy", hvcore.Tuning())
    assert source.transfer().cpus_run
    source.does("cancel_transfer")
    assert source.transfer() == hvcore.Transfer(state=hvcore.TransferState.CANCELLED, cpus_run=True)
    assert target.transfer().state == hvcore.TransferState.WAITING


def test_after_the_switch_to_postcopy_it_is_over_when_it_runs_on_the_target(sides: tuple[Side, Side]) -> None:
    source, target = sides
    source.does("send", target.land(source, "postcopy"), "postcopy", hvcore.Tuning())
    source.does("switch_to_postcopy")
    with pytest.raises(hvcore.OperationError, match=r"runs on the target already"):
        source.does("cancel_transfer")
    assert [side.transfer().state for side in sides] == [hvcore.TransferState.POSTCOPY_ACTIVE] * 2
    target.does("run_landed")
    assert [side.transfer().state for side in sides] == [hvcore.TransferState.COMPLETED] * 2


def test_a_message_that_is_not_one_is_refused() -> None:
    with pytest.raises(hvcore.RecordError, match=r"landing"):
        hvcore.Landing.from_json({"kind": "Landing", "job": "j1"})
    assert hvcore.Tuning.from_json(hvcore.Tuning(caps=("xbzrle",)).to_json()) == hvcore.Tuning(caps=("xbzrle",))
