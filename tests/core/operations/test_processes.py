"""Instances that are real processes: none is left when any process dies, and no foreign one is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sleeper import Sleeper

import hvcore
import hvcore.plugin
from hvcore import Instance, OperationError, State
from hvcore.deadline import Deadline
from hvcore.host.processes.launched import members
from hvcore.host.processes.process import identify, kill_and_wait
from hvcore.model.record import Phase, ProcessId
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.operations.recovery.recover import recover_all
from hvcore.plugin import AsUser, DiskClaim, Entry, Sandbox
from hvcore.plugins.loaded_driver import LoadedDriver

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
OFF = None
STRICT = Sandbox(who=AsUser(1_880_000_000))


@pytest.fixture
def make(load: Callable[..., LoadedDriver], context: Callable[..., Context]) -> Callable[..., Any]:
    """``make(sandbox, meanwhile)``: the driver and its node."""

    def build(
        sandbox: Sandbox | None = OFF, meanwhile: Callable[[], None] = lambda: None
    ) -> tuple[Context, LoadedDriver]:
        made = type("Made", (Sleeper,), {"sandbox": sandbox, "meanwhile": staticmethod(meanwhile)})
        loaded = load(made)
        return context(loaded), loaded

    return build


@pytest.fixture(autouse=True)
def _none_is_left(run_dir: Path) -> Iterator[None]:
    yield
    for directory in (run_dir / "instances").glob("*"):
        for process in members(directory / "alive", directory / "status"):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def bring_up(node: Context, loaded: LoadedDriver, name: str = "web1") -> hvcore.Outcome:
    return start(node, loaded, Instance(name=name, driver="fake"), paused=False, deadline=Deadline(10))


def process_of(node: Context, name: str = "web1") -> ProcessId:
    record = node.store.load(name)
    assert record is not None
    assert record.process is not None
    return record.process


SANDBOXES = [pytest.param(OFF, id="off"), pytest.param(STRICT, id="strict", marks=[pytest.mark.live, ROOT])]


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_it_lives_until_it_is_stopped(make: Any, sandbox: Sandbox | None, nothing_left: Callable[[], None]) -> None:
    node, loaded = make(sandbox)
    bring_up(node, loaded)
    process = process_of(node)
    assert hvcore.plugin.alive(process)
    assert observed(node, "web1").state is State.RUNNING
    stop(node, "web1", force=True, deadline=Deadline(10))
    assert not hvcore.plugin.alive(process)
    nothing_left()


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_start_that_fails_after_the_launch_ends_what_it_launched(
    make: Any, sandbox: Sandbox | None, run_dir: Path, nothing_left: Callable[[], None]
) -> None:
    seen: list[ProcessId] = []

    def fail() -> None:
        folder = run_dir / "instances" / "web1"
        seen.extend(members(folder / "alive", folder / "status"))
        raise OperationError("web1: no")

    node, loaded = make(sandbox, fail)
    with pytest.raises(OperationError):
        bring_up(node, loaded)
    assert seen
    assert not any(hvcore.plugin.alive(process) for process in seen)
    nothing_left()


def test_an_interrupt_after_the_launch_ends_what_it_launched(make: Any, nothing_left: Callable[[], None]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    node, loaded = make(OFF, interrupt)
    with pytest.raises(KeyboardInterrupt):
        bring_up(node, loaded)
    nothing_left()


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_caller_killed_right_after_the_launch_leaves_no_process(
    make: Any, sandbox: Sandbox | None, run_dir: Path, in_child: Callable[..., int], nothing_left: Callable[[], None]
) -> None:
    node, loaded = make(sandbox, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert in_child(bring_up, node, loaded) == signal.SIGKILL
    folder = run_dir / "instances" / "web1"
    orphans = members(folder / "alive", folder / "status")
    assert orphans
    assert [result.what for result in recover_all(node, 10)] == ["undone"]
    assert not any(hvcore.plugin.alive(process) for process in orphans)
    nothing_left()


def test_a_child_that_the_host_forked_during_the_start_survives_the_recovery(
    make: Any, in_child: Callable[..., int]
) -> None:
    pipe = os.pipe()

    def fork_and_die() -> None:
        if os.fork() == 0:
            os.write(pipe[1], str(os.getpid()).encode())
            signal.pause()
        os.read(pipe[0], 0)
        os.kill(os.getpid(), signal.SIGKILL)

    node, loaded = make(OFF, fork_and_die)
    assert in_child(bring_up, node, loaded) == signal.SIGKILL
    forked = identify(int(os.read(pipe[0], 20)))
    os.close(pipe[0])
    os.close(pipe[1])
    assert forked is not None
    try:
        assert [result.what for result in recover_all(node, 10)] == ["undone"]
        assert hvcore.plugin.alive(forked)
    finally:
        kill_and_wait(forked, subject="x", deadline_s=60)


def test_a_running_one_is_left_alone_by_recovery(make: Any) -> None:
    node, loaded = make()
    bring_up(node, loaded)
    assert recover_all(node, 10) == []
    assert hvcore.plugin.alive(process_of(node))
    stop(node, "web1", force=True, deadline=Deadline(10))


def test_a_killed_instance_is_crashed_and_starts_again(make: Any) -> None:
    node, loaded = make()
    bring_up(node, loaded)
    first = process_of(node)
    kill_and_wait(first, subject="x", deadline_s=60)
    assert observed(node, "web1").state is State.CRASHED
    assert bring_up(node, loaded).changed
    assert process_of(node) != first
    stop(node, "web1", force=True, deadline=Deadline(10))


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_a_damaged_record_does_not_hide_the_process_from_force(
    make: Any, sandbox: Sandbox | None, run_dir: Path
) -> None:
    node, loaded = make(sandbox)
    bring_up(node, loaded)
    process = process_of(node)
    (run_dir / "instances" / "web1" / "record.json").write_bytes(b"")
    assert observed(node, "web1").state is State.UNKNOWN
    outcome = stop(node, "web1", force=True, deadline=Deadline(10))
    assert f"ended pid {process.pid}" in outcome.notes
    assert not hvcore.plugin.alive(process)


@pytest.mark.live
@ROOT
@pytest.mark.parametrize("how", ["boot", "numbers", "damaged"])
def test_another_process_with_the_pid_of_a_dead_one_survives(make: Any, tool: Callable[[str], str], how: str) -> None:
    """web1 died with its caller. Its pid namespace's number is now web2's, which runs and is healthy."""
    node, loaded = make(STRICT)
    bring_up(node, loaded, "web2")
    healthy = process_of(node, "web2")
    namespace = os.stat(f"/proc/{healthy.pid}/ns/pid").st_ino
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    directory = node.store.create("web1")
    (directory / "alive").touch()
    pid = healthy.pid if how == "boot" else gone.pid
    (directory / "status").write_text(json.dumps({"child-pid": pid, "pid-namespace": namespace}) + "\n")
    record = node.store.load("web2")
    assert record is not None
    fields: dict[str, Any] = {"boot_id": "another"} if how == "boot" else {}
    dead = replace(record, name="web1", phase=Phase.STARTING, process=None, monitor=None, **fields)
    node.store.save(replace(dead, instance=Instance(name="web1", driver="fake")))
    if how == "damaged":
        (directory / "record.json").write_bytes(b"")
        stop(node, "web1", force=True, deadline=Deadline(10))
    else:
        assert [(result.name, result.what) for result in recover_all(node, 10)] == [
            ("web1", "cleaned" if how == "boot" else "undone")
        ]
    assert not directory.exists()
    assert hvcore.plugin.alive(healthy)
    stop(node, "web2", force=True, deadline=Deadline(10))


@pytest.mark.parametrize(
    ("sandbox", "how"),
    [(OFF, "stop"), (OFF, "damaged"), pytest.param(STRICT, "recovery", marks=[pytest.mark.live, ROOT])],
    ids=["stop", "damaged", "strict-recovery"],
)
def test_a_companion_ends_with_what_it_was_launched_for(
    make: Any, sandbox: Sandbox | None, how: str, run_dir: Path, nothing_left: Callable[[], None]
) -> None:
    node, loaded = make(sandbox)
    bring_up(node, loaded)
    record = node.store.load("web1")
    assert record is not None
    job, folder = node.job(record, Deadline(10)), run_dir / "instances" / "web1"
    job.update(ledger=(*record.ledger, Entry(kind="companion", key="tpm", data={"name": "tpm"})))
    job.launch(hvcore.plugin.Command(argv=("sleep", "100"), sandbox=sandbox), companion="tpm").close()
    found = members(folder / "tpm.alive", folder / "tpm.status")
    assert found
    assert not set(found) & set(members(folder / "alive", folder / "status"))
    if how == "recovery":
        kill_and_wait(process_of(node), subject="x", deadline_s=60)
        job.update(phase=Phase.STARTING)
        assert [result.what for result in recover_all(node, 10)] == ["undone"]
    else:
        if how == "damaged":
            (folder / "record.json").write_bytes(b"")
        stop(node, "web1", force=True, deadline=Deadline(10))
    assert not any(hvcore.plugin.alive(process) for process in found)
    nothing_left()


def claim(path: Path, *, key: str = "disk0", write: bool = True) -> DiskClaim:
    return DiskClaim(key=key, path=str(path), write=write)


def test_disks_are_claimed_once_on_a_node(make: Any, run_dir: Path, tmp_path: Path) -> None:
    node, loaded = make()
    image = tmp_path / "a.img"
    image.write_bytes(b"x" * 512)
    (tmp_path / "link").symlink_to(image)
    bring_up(node, loaded, "a")
    bring_up(node, loaded, "b")
    records = [node.store.load(name) for name in ("a", "b")]
    first, second = (node.job(record, Deadline(10)) for record in records if record is not None)
    first.acquire(claim(image))
    first.acquire(claim(image, key="disk1"))  # it has it already
    first.held.close()  # what follows is about the reservations
    for write in (True, False):
        with pytest.raises(hvcore.DiskInUseError, match="already in use by instance a; stop that") as caught:
            second.acquire(claim(tmp_path / "link", write=write))
        assert caught.value.exit_code == 5
    with pytest.raises(FileNotFoundError):
        second.acquire(claim(tmp_path / "none", key="disk1"))
    stop(node, "a", force=True, deadline=Deadline(10))
    second.acquire(claim(image, write=False))
    second.held.close()
    bring_up(node, loaded, "a")
    record = node.store.load("a")
    assert record is not None
    first = node.job(record, Deadline(10))
    first.acquire(claim(image, write=False))  # readers share
    first.held.close()
    with pytest.raises(hvcore.DiskInUseError, match="instance b"):
        first.acquire(claim(image, key="disk1"))
    for name in ("a", "b"):
        stop(node, name, force=True, deadline=Deadline(10))
    assert os.listdir(run_dir / "reservations" / "disk-readers") == []
