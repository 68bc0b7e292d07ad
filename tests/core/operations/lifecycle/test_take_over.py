"""A stop by force while a polite stop is in progress: the polite one waits no longer, whatever its driver waits for."""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sleeper import Sleeper

import hvcore.plugin as hv
from hvcore import Instance, OperationError, Outcome, State
from hvcore.deadline import Deadline
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.reboot import reboot
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop

Wait = Callable[[hv.ProcessId, hv.Job], bool]
LONG_S = 20.0


def for_the_process(process: hv.ProcessId, job: hv.Job) -> bool:
    return hv.wait_gone(process, LONG_S)


def by_the_deadline(process: hv.ProcessId, job: hv.Job) -> bool:
    while job.deadline.left() > 0.0:
        if hv.wait_gone(process, job.deadline.left(at_most=5.0)):
            return True
    return False


def with_a_clock(process: hv.ProcessId, job: hv.Job) -> bool:
    while job.deadline.left() > 0.0 and hv.alive(process):
        time.sleep(0.01)
    return not hv.alive(process)


def deaf(process: hv.ProcessId, job: hv.Job) -> bool:
    with hv.verified_pidfd(process) as fd:
        assert fd is not None
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(LONG_S * 1000))


def deaf_and_slow(process: hv.ProcessId, job: hv.Job) -> bool:
    """As on a busy node: what remains to be done after the end of the guest takes longer than others wait for the lock."""
    ended = deaf(process, job)
    time.sleep(1.5)
    return ended


class Polite(Sleeper):
    """Its guests do not listen."""

    waits: Wait = staticmethod(for_the_process)
    stopping: threading.Event

    def stop(self, live: hv.Live, job: hv.Job, *, force: bool) -> str:
        assert live.record.process is not None
        if not force:
            self.stopping.set()
            if type(self).waits(live.record.process, job):
                return "powerdown"
        return "kill" if hv.kill_and_wait(live.record.process, subject=job.name, deadline_s=60) else "gone"


@pytest.fixture
def polite(load: Callable[..., Any], context: Callable[..., Context]) -> Callable[[Wait], tuple[Context, Any]]:
    def build(waits: Wait) -> tuple[Context, Any]:
        made = type("Made", (Polite,), {"waits": staticmethod(waits), "stopping": threading.Event()})
        loaded = load(made)
        node = context(loaded)
        start(node, loaded, Instance(name="web1", driver="fake"), paused=False, deadline=Deadline(10))
        return node, loaded

    return build


def forced_while(node: Context, loaded: Any, operation: Callable[[], Outcome]) -> tuple[Future[Outcome], Outcome]:
    """The polite operation in another thread, and the outcome of a stop by force that came while it waited."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(operation)
        assert loaded.driver.stopping.wait(60)
        return first, stop(node, "web1", force=True, deadline=Deadline(30))


@pytest.mark.parametrize("waits", [for_the_process, by_the_deadline, with_a_clock, deaf])
def test_a_stop_by_force_ends_the_wait_of_a_polite_stop(
    polite: Any, waits: Wait, nothing_left: Callable[[], None]
) -> None:
    node, loaded = polite(waits)
    begun = time.monotonic()
    first, second = forced_while(node, loaded, lambda: stop(node, "web1", force=False, deadline=Deadline(LONG_S)))
    assert time.monotonic() - begun < LONG_S / 2
    assert (second.changed, second.state, second.stopped_by) == (True, State.STOPPED, "kill")
    assert "another operation was waiting for the guest" in second.notes[-1]
    assert (first.result().stopped_by, first.result().state) == ("kill", State.STOPPED)
    assert "a stop by force ended the wait for the guest" in first.result().notes
    nothing_left()


def test_a_stop_by_force_that_has_killed_the_guest_waits_for_the_polite_stop_to_end(
    polite: Any, nothing_left: Callable[[], None]
) -> None:
    node, loaded = polite(deaf_and_slow)
    node = replace(node, busy_s=1.0)
    first, second = forced_while(node, loaded, lambda: stop(node, "web1", force=False, deadline=Deadline(LONG_S)))
    assert (second.changed, second.state, second.stopped_by) == (True, State.STOPPED, "kill")
    assert first.result().state is State.STOPPED
    nothing_left()


def test_a_reboot_that_is_hurried_starts_nothing_again(polite: Any, nothing_left: Callable[[], None]) -> None:
    node, loaded = polite(for_the_process)
    first, second = forced_while(
        node,
        loaded,
        lambda: reboot(node, "web1", force=False, deadline=Deadline(LONG_S), start_deadline=Deadline(LONG_S)),
    )
    assert second.state is State.STOPPED
    with pytest.raises(OperationError, match="web1: a stop by force came during the reboot, so it is stopped"):
        first.result()
    nothing_left()


POLITE: dict[str, Callable[[Context], Outcome]] = {
    "stop": lambda node: stop(node, "web1", force=False, deadline=Deadline(LONG_S)),
    "reboot": lambda node: reboot(
        node, "web1", force=False, deadline=Deadline(LONG_S), start_deadline=Deadline(LONG_S)
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("waits", [for_the_process, deaf])
@pytest.mark.parametrize("polite_one", POLITE)
def test_a_reboot_by_force_takes_over_and_starts_it_again(
    polite: Any, waits: Wait, polite_one: str, nothing_left: Callable[[], None]
) -> None:
    node, loaded = polite(waits)
    before = node.store.load("web1")
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(POLITE[polite_one], node)
        assert loaded.driver.stopping.wait(60)
        second = reboot(node, "web1", force=True, deadline=Deadline(30), start_deadline=Deadline(30))
    assert time.monotonic() - begun < LONG_S / 2
    assert (second.state, second.clean) == (State.RUNNING, False)
    assert any("another operation was waiting for the guest" in note for note in second.notes)
    if polite_one == "stop":
        assert first.result().stopped_by == "kill"
    else:
        assert isinstance(first.exception(), OperationError)
    after = node.store.load("web1")
    assert (after.instance, after.spec) == (before.instance, before.spec)
    assert after.process != before.process
    assert hv.alive(after.process)
    assert stop(node, "web1", force=True, deadline=Deadline(10)).changed
    nothing_left()


def test_a_reboot_by_force_that_takes_over_and_cannot_start_keeps_the_definition(
    polite: Any, monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[], None]
) -> None:
    node, loaded = polite(for_the_process)

    def fails(*_: object) -> None:
        raise OperationError("web1: fails on purpose")

    monkeypatch.setattr(type(loaded.driver), "start", fails)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(POLITE["stop"], node)
        assert loaded.driver.stopping.wait(60)
        with pytest.raises(OperationError, match="fails on purpose"):
            reboot(node, "web1", force=True, deadline=Deadline(30), start_deadline=Deadline(30))
    assert observed(node, "web1").state is State.CRASHED
    monkeypatch.undo()
    assert reboot(node, "web1", force=False, deadline=Deadline(10), start_deadline=Deadline(10)).state is State.RUNNING
    stop(node, "web1", force=True, deadline=Deadline(10))
    nothing_left()


def test_a_polite_stop_needs_no_room_to_listen(
    polite: Any, monkeypatch: pytest.MonkeyPatch, nothing_left: Callable[[], None]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    node, _ = polite(lambda *_: False)
    monkeypatch.setattr(os, "mkfifo", full)
    assert stop(node, "web1", force=False, deadline=Deadline(LONG_S)).stopped_by == "kill"
    nothing_left()


def test_what_a_killed_stop_left_is_used_again(polite: Any, nothing_left: Callable[[], None]) -> None:
    node, loaded = polite(by_the_deadline)
    os.mkfifo(node.store.dir("web1") / "hurry")
    _, second = forced_while(node, loaded, lambda: stop(node, "web1", force=False, deadline=Deadline(LONG_S)))
    assert second.stopped_by == "kill"
    nothing_left()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_fifo_is_not_listened_to(
    polite: Any, make: Callable[[Path], object], nothing_left: Callable[[], None]
) -> None:
    node, _ = polite(lambda *_: False)
    make(node.store.dir("web1") / "hurry")
    assert stop(node, "web1", force=False, deadline=Deadline(LONG_S)).stopped_by == "kill"
    nothing_left()
