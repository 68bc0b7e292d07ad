"""Operations in progress on instances without resources, and kinds of resources that record their calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stores import CountingStore

from hvcore.deadline import Deadline
from hvcore.host.cgroups.hierarchy import ControlGroups
from hvcore.model.record import Phase
from hvcore.plugin import Host, Job, Level, Record, ResourceKind, Site
from hvcore.resources.core_kinds import with_kinds
from hvcore.resources.kinds import Kinds

UIDS = range(1_880_000_000, 1_880_000_100)


@pytest.fixture
def site(run_dir: Path) -> Callable[..., Site]:
    """``site("web1", level=..., run_dir=...)``: the instance that a resource is for, on a node without control groups."""

    def make(name: str = "web1", *, level: Level = Level.STRICT, **host: Any) -> Site:
        given: dict[str, Any] = {
            "run_dir": run_dir,
            "privileged": os.geteuid() == 0,
            "uid_pool": UIDS,
            "cgroups": ControlGroups(),
        }
        return Site(name=name, level=level, host=Host(**(given | host)))

    return make


@pytest.fixture
def at_work(record: Callable[..., Record], site: Callable[..., Site]) -> Iterator[Callable[..., Job]]:
    """``at_work("web1", kinds=...)``: an operation on that instance, which is made if it does not exist.

    ``kinds`` are all kinds of resources; ``more`` are added to those of the core.
    """
    jobs: list[Job] = []

    def make(
        name: str = "web1",
        *,
        kinds: Kinds | None = None,
        more: tuple[ResourceKind[Any, Any], ...] = (),
        store: type[CountingStore] = CountingStore,
        **where: Any,
    ) -> Job:
        place = site(name, **where)
        records = store(place.host.run_dir)
        found = records.load(name)
        if found is None:
            found = record(name=name, phase=Phase.STARTING, ledger=(), bindings={}, process=None, monitor=None)
            records.create(name)
            records.save(found)
            records.saved = 0
        job = Job(
            store=records,
            record=found,
            site=place,
            kinds=kinds or with_kinds([("test", kind) for kind in more]),
            deadline=Deadline(10),
            progress=lambda text: None,
        )
        jobs.append(job)
        return job

    yield make
    for job in jobs:
        job.held.close()
