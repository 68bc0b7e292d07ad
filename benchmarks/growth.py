"""The processor time of this process for a start and a stop, beside many instances.

A start must not take longer because other instances run. So one guest is started and stopped beside 0, 50, 150 and 500
others. These are stand-ins, because 500 QEMUs do not fit into the memory of a small machine: each is made by the same
`Job` as a guest, with a record, a uid, a disk and the files of the launch, and its process is ``sleep`` with the marks
and the life lock of a launched one. Processor time, because QEMU and the sandbox take most of the elapsed time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import hvcore.plugin as hv
from benchmarks.guests import Bench, bench, file_system_of, on_disk, on_tmpfs
from benchmarks.measure import Goal, Report, Row
from hvcore.deadline import Deadline
from hvcore.host.environment import Host, default_uid_pool
from hvcore.model.record import Phase, Record
from hvcore.resources.core_kinds import CORE_KINDS
from hvcore.state.job import Job
from hvcore.state.store import Store

__all__ = ["growths"]

_CROWDS: Final = (0, 50, 150, 500)
_NAME: Final = "web1"
_WARM_UP: Final = 2
_GROWTH: Final = 1.1
"""A start beside 500 may cost this multiple of one on an empty node: two runs of the same work differ by that."""


def growths(repeat: int) -> Iterator[Report]:
    """One report on starts and one on stops, with the run directory on tmpfs where there is one; nothing without root."""
    where = on_tmpfs() or on_disk()
    if where is None or os.geteuid() != 0:
        return
    with bench(where) as made:
        made.kvm.start(made.instance(), paused=True)
        template = Store(made.node.run_dir).load(_NAME)
        made.node.stop(_NAME, force=True)
        if template is None:
            raise RuntimeError(f"{_NAME}: not started")
        starts: dict[int, list[float]] = {}
        stops: dict[int, list[float]] = {}
        there = 0
        for crowd in _CROWDS:
            while there < crowd:
                _stand_in(made, template, f"vm{there:03}")
                there += 1
            starts[crowd], stops[crowd] = _samples(made, repeat)
        kind = file_system_of(made.directory)
        yield _report(f"own processor time of a start; run directory on {kind}", starts)
        yield _report(f"own processor time of a forced stop; run directory on {kind}", stops)


def _report(title: str, found: dict[int, list[float]]) -> Report:
    alone = Row(name="alone on the node", samples=found[0])
    rows = [
        Row(name=f"beside {crowd} stand-ins", samples=samples, against=alone, goal=Goal(_GROWTH, ratio=True))
        for crowd, samples in found.items()
        if crowd
    ]
    notes = (
        "user and system time of the calling process, without the processes that it starts (QEMU, bubblewrap)",
        "not real: each stand-in has one process, a guest has three",
    )
    return Report(title=title, rows=[alone, *rows], notes=notes)


def _samples(made: Bench, repeat: int) -> tuple[list[float], list[float]]:
    instance = made.instance()
    starts, stops = [], []
    for turn in range(-_WARM_UP, repeat):
        start = _own_ms(lambda: made.kvm.start(instance, paused=True))
        stop = _own_ms(lambda: made.node.stop(_NAME, force=True))
        if turn >= 0:
            starts.append(start)
            stops.append(stop)
    return starts, stops


def _own_ms(work: Callable[[], object]) -> float:
    """Milliseconds of processor time, user and system, that the call takes this process."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1000


def _stand_in(made: Bench, template: Record, name: str) -> None:
    """An instance like the template, made as a driver makes one, whose process sleeps."""
    instance = made.instance(name)
    host = Host(run_dir=made.node.run_dir, privileged=True, uid_pool=default_uid_pool())
    store = Store(host.run_dir)
    blank = replace(
        template, name=name, instance=instance, phase=Phase.STARTING, process=None, monitor=None, ledger=(), bindings={}
    )
    store.create(name)
    job = Job(
        store=store,
        record=blank,
        site=hv.Site(name=name, host=host, level=hv.Level.STRICT),
        kinds=CORE_KINDS,
        deadline=Deadline(30.0),
        progress=lambda _: None,
    )
    user = hv.Identity(key="uid")
    disk = hv.DiskClaim(key="disk0", path=instance.disks[0].path, write=True)
    try:
        taken = job.acquire(user, disk)[user]
        job.bind(uid=None if taken is None else taken.uid)
        child = job.launch(hv.Command(argv=("sleep", "infinity"), sandbox=None))
        process = child.process()
        child.close()
        if process is None:
            raise RuntimeError(f"{name}: did not start")
        job.started(process)
        job.update(phase=Phase.RUNNING)
    finally:
        job.held.close()
