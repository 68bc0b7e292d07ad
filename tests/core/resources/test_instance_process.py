"""The instance's own process is in the ledger before it is launched, and is ended before anything else is released."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from stores import CountingStore
from things import Thing, ThingKind

from hvcore.host.launching.launch import reap
from hvcore.host.processes.launched import members
from hvcore.host.processes.process import identify
from hvcore.plugin import Child, Command, DiskClaim, InstanceProcess, Job, Record, alive
from hvcore.state.store import Store

AtWork = Callable[..., Job]


class LastWrite(CountingStore):
    """A store whose user dies with the first write that has something in the ledger."""

    def save(self, record: Record) -> None:
        super().save(record)
        if record.ledger:
            os.kill(os.getpid(), signal.SIGKILL)


def launched(job: Job) -> Child:
    child = job.launch(Command(argv=("sleep", "100"), sandbox=None))
    process = child.process()
    assert process is not None
    job.started(process, child.monitor())
    return child


def test_it_is_in_the_ledger_on_disk_before_there_is_one(at_work: AtWork, in_child: Callable[..., int]) -> None:
    job = at_work(store=LastWrite)
    assert in_child(job.launch, Command(argv=("sleep", "100"), sandbox=None)) == signal.SIGKILL
    after = at_work()
    assert [(entry.kind, entry.key) for entry in after.record.ledger] == [("process", "process")]
    assert members(after.dir / "alive", after.dir / "status") == []
    after.release()


def test_it_is_ended_before_what_it_uses_is_given_back(at_work: AtWork, tmp_path: Path) -> None:
    disk, seen = tmp_path / "disk", list[bool]()
    disk.touch()

    def look(what: str, key: str) -> None:
        if what == "release":
            assert job.record.process is not None
            seen.append(alive(job.record.process))

    job = at_work(more=(ThingKind(look),))
    job.acquire(DiskClaim(key="disk0", path=str(disk), write=True), Thing(key="before"))
    child = launched(job)
    job.acquire(Thing(key="after"))  # it comes behind the process in the ledger
    job.release()
    assert seen == [False, False]
    child.close()
    reap()


def test_a_process_of_another_boot_is_left_alone(at_work: AtWork) -> None:
    job = at_work()
    job.acquire(InstanceProcess(key="process"))
    with subprocess.Popen(["sleep", "100"]) as stranger:
        process = identify(stranger.pid)
        assert process is not None
        job.update(process=process, boot_id="another")
        job.release()
        assert alive(process)
        stranger.kill()


@pytest.mark.parametrize("wrong", ["boot", "process"])
def test_what_was_launched_is_ended_also_if_the_record_is_wrong(wrong: str, at_work: AtWork) -> None:
    job = at_work()
    child = launched(job)
    process = job.record.process
    assert process is not None
    job.update(**{"boot_id": "another"} if wrong == "boot" else {"process": replace(process, start_ticks=1)})
    job.release()
    assert not alive(process)
    child.close()
    reap()
    assert Store(job.host.run_dir).names() == ["web1"]
