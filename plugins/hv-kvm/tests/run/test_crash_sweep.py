"""The caller is killed at every system call of a start and of a stop. Recovery settles the guest, and leaves nothing.

strace kills the caller, and not its children, when it enters its n-th call of one kind. After each kill the guest has
either ended with all its resources or runs and answers; then it starts and stops as usual.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from empty_network import NEEDS_ROOT
from killed_calls import Point, killed_at, points
from nic_modes import NIC_MODES, SAMPLE_OF_MODES, ModeNetwork, mode_network
from world import PATIENCE_S, World

from hv_kvm.qmp import QmpError, commands, connect
from hvcore import State
from hvcore.model.record import Phase

pytestmark = [pytest.mark.live, pytest.mark.skipif(shutil.which("strace") is None, reason="no strace: ./dev setup")]

# Those that make a tap and connect it.
_OF_LINKS = frozenset(("ioctl", "socket", "sendto", "recvfrom", "wait4", "pidfd_open"))
_SAMPLE = 6


# Guests with more to acquire, or in another way.
_MORE: dict[str, dict[str, Any]] = {
    "two-disks": {"disks": ("a.img", "b.img")},
    "a-display": {"vnc_bind_address": "127.0.0.1"},
    "no-confinement": {"confinement": "off"},
    "a-reader-of-its-log": {"serial_log": False},
    "a-pause": {"paused": True},
}

Acts = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def settled(world: World) -> str | None:
    """Recover, and return what is wrong afterwards."""
    for found in world.node.recover():
        if found.what == "failed":
            return f"recovery failed: {found.detail}"
    infos = world.node.instances()
    if not infos:
        left = world.leftovers()
        return f"left: {left}" if left else None
    if infos[0].state in (State.RUNNING, State.PAUSED):
        with contextlib.suppress(QmpError), connect(str(world.dir() / "qmp"), deadline_s=10) as client:
            running = commands.query_status(client).running
            return None if running == (infos[0].state is State.RUNNING) else f"is not {infos[0].state}, as it is listed"
    # The caller sent quit before it died, and QEMU has exited since.
    world.wait_ended(world.record())
    info = world.info()
    if (info.state, info.reason) != (State.SHUTDOWN, "ended from outside the guest (host-qmp-quit)"):
        return f"neither gone nor running: {info}"
    world.node.cleanup("web1")
    return "; ".join(world.leftovers()) or None


def sweep(world: World, chosen: list[Point], act: Callable[[], object], before: Callable[[], object]) -> Counter[str]:
    """Kill at each of the points, and check the promise of the module's docstring; the number of each outcome."""
    outcomes: Counter[str] = Counter()
    failures = []
    for point in chosen:
        before()
        if not killed_at(point, act):
            outcomes["not reached"] += 1
        wrong = settled(world)
        outcomes["running" if world.node.instances() else "gone"] += 1
        if wrong is None:
            world.node.stop("web1", force=True)
            wrong = None if world.start().changed else "does not start"
            world.node.stop("web1", force=True)
            wrong = wrong or ("; ".join(world.leftovers()) or None)
        if wrong is not None:
            failures.append(f"{point}: {wrong}")
            world.node.stop("web1", force=True)
    assert failures == []
    return outcomes


@pytest.fixture
def acts(world: World) -> Acts:
    """The operation that is interrupted, and the operations before it."""
    instance, state = world.instance(), world.root / "tpm"
    state.mkdir()
    with_tpm = world.instance(tpm_version="2.0", tpm_state_path=str(state))
    world.start()  # probes the binary once
    world.node.stop("web1", force=True)

    def nothing() -> None:
        pass

    def started() -> None:
        world.kvm.start(instance)

    return {
        "start": (lambda: world.kvm.start(instance), nothing),
        "stop": (lambda: world.node.stop("web1", force=True), started),
        "start-with-tpm": (lambda: world.kvm.start(with_tpm), nothing),
        "stop-with-tpm": (lambda: world.node.stop("web1", force=True), lambda: world.kvm.start(with_tpm)),
    }


@pytest.fixture
def announce(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints past pytest's capture: the figures of a sweep are useful when the test passes, too."""

    def say(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}\n")

    return say


@pytest.fixture
def with_more(more: str, world: World) -> Acts:
    """`acts` for a guest of `_MORE`."""
    params = dict(_MORE[more])
    paused = params.pop("paused", False)
    params["disks"] = [world.disk(name) for name in params.pop("disks", ("a.img",))]
    instance = world.instance(**params)

    def start() -> object:
        return world.kvm.start(instance, paused=paused)

    def stop() -> object:
        return world.node.stop("web1", force=True)

    start()  # probes the binary once
    stop()
    return {"start": (start, lambda: None), "stop": (stop, start)}


@pytest.mark.parametrize(
    "more",
    ["a-pause", *(pytest.param(name, marks=pytest.mark.slow) for name in _MORE if name != "a-pause")],
)
def test_a_caller_killed_at_some_calls_of_the_start_of_a_guest_with(world: World, with_more: Acts, more: str) -> None:
    every = chosen_points(world, with_more, "start")
    sweep(world, every[:: len(every) // 3], *with_more["start"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("op", ["start", "stop"])
@pytest.mark.parametrize("more", _MORE)
def test_a_caller_killed_at_any_call_of_a_guest_with(
    world: World, with_more: Acts, more: str, op: str, announce: Callable[[str], None]
) -> None:
    every = chosen_points(world, with_more, op)
    outcomes = sweep(world, every, *with_more[op])
    announce(f"{op} with {more}: killed at {len(every)} calls: {dict(outcomes)}")


def chosen_points(world: World, acts: Acts, name: str) -> list[Point]:
    act, before = acts[name]
    before()
    found = points(act, world.root)
    world.node.stop("web1", force=True)
    assert len(found) > 50, found
    return found


@pytest.fixture
def prepared(mode: str, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModeNetwork]:
    """A network for the test that is prepared for NICs of that mode. Its links are leftovers, and what else the mode has."""
    with mode_network(mode, tmp_path_factory.mktemp(mode)) as network:
        world.places.append(network.leftovers)
        yield network
        for info in world.node.instances():
            world.node.stop(info.name, force=True)
        assert network.leftovers() == []
        world.places.clear()  # outside of this network they are other links


def with_nics(world: World, network: ModeNetwork, op: str = "start") -> tuple[list[Point], Acts]:
    """The points of a start or a stop of a guest with two NICs, and `acts` for that guest."""
    instance = world.instance(nics=network.nics, **network.params)

    def start() -> object:
        return world.kvm.start(instance, deadline_s=PATIENCE_S)

    def stop() -> object:
        return world.node.stop("web1", force=True)

    start()  # probes the binary once
    stop()
    acts: Acts = {"start": (start, lambda: None), "stop": (stop, start)}
    return chosen_points(world, acts, op), acts


@NEEDS_ROOT
@pytest.mark.parametrize("mode", SAMPLE_OF_MODES)
def test_a_caller_killed_while_it_makes_links_leaves_none(prepared: ModeNetwork, world: World) -> None:
    every, acts = with_nics(world, prepared)
    chosen = [point for point in every if point.call in _OF_LINKS]
    assert len(chosen) > 20, chosen
    assert sweep(world, chosen[:: len(chosen) // 2], *acts["start"])["gone"] > 1


@NEEDS_ROOT
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("op", ["start", "stop"])
@pytest.mark.parametrize("mode", NIC_MODES)
def test_a_caller_killed_at_any_call_with_nics_leaves_nothing_of_them(
    prepared: ModeNetwork, world: World, op: str, announce: Callable[[str], None]
) -> None:
    every, acts = with_nics(world, prepared, op)
    outcomes = sweep(world, every, *acts[op])
    announce(f"{op}: killed at {len(every)} calls: {dict(outcomes)}")


TPM = pytest.mark.skipif(shutil.which("swtpm") is None, reason="no swtpm: ./dev setup")


@pytest.mark.parametrize("name", ["start", "stop", pytest.param("start-with-tpm", marks=TPM)])
def test_a_caller_killed_at_some_calls_leaves_nothing_that_recovery_does_not_settle(
    world: World, acts: Acts, name: str
) -> None:
    every = chosen_points(world, acts, name)
    sweep(world, every[:: len(every) // _SAMPLE], *acts[name])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "name", ["start", "stop", pytest.param("start-with-tpm", marks=TPM), pytest.param("stop-with-tpm", marks=TPM)]
)
def test_a_caller_killed_at_any_call_leaves_nothing_that_recovery_does_not_settle(
    world: World, acts: Acts, name: str, announce: Callable[[str], None]
) -> None:
    every = chosen_points(world, acts, name)
    outcomes = sweep(world, every, *acts[name])
    announce(f"{name}: killed at {len(every)} calls: {dict(outcomes)}")


def test_an_interrupted_start_that_had_succeeded_is_finished(world: World) -> None:
    world.start()
    pid = world.pid()
    world.save(replace(world.record(), phase=Phase.STARTING, process=None, monitor=None))
    assert world.info().state is State.STARTING
    assert [(one.name, one.what) for one in world.node.recover()] == [("web1", "finished")]
    assert (world.info().state, world.pid()) == (State.RUNNING, pid)
    assert world.node.stop("web1", force=True).stopped_by == "quit"


def test_an_interrupted_stop_of_a_healthy_guest_is_taken_back(world: World) -> None:
    world.start()
    world.save(replace(world.record(), phase=Phase.STOPPING))
    assert [(one.name, one.what) for one in world.node.recover()] == [("web1", "taken back")]
    assert world.info().state is State.RUNNING


@pytest.mark.parametrize("paused", [False, True])
def test_an_interrupted_start_that_had_not_succeeded_is_undone(world: World, *, paused: bool) -> None:
    world.start(paused=not paused)
    world.save(replace(world.record(), phase=Phase.STARTING, paused=paused))
    assert [(one.name, one.what) for one in world.node.recover()] == [("web1", "undone")]
    assert world.leftovers() == []


def test_recovery_never_stops_a_healthy_guest(world: World) -> None:
    for name in ("web1", "web2"):
        world.start(name)
    pids = [world.pid(name) for name in ("web1", "web2")]
    assert world.node.recover() == []
    assert [world.pid(name) for name in ("web1", "web2")] == pids


def cycle(world: World, times: int) -> None:
    instance = world.instance()
    for _ in range(times):
        assert world.kvm.start(instance).changed
        assert world.node.stop("web1", force=True).changed


def figures() -> tuple[int, int, int]:
    """Our own descriptors, children and memory in MiB."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), len(children), resident


@pytest.mark.parametrize(
    "times",
    [20, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_many_cycles_leak_nothing(world: World, times: int, announce: Callable[[str], None]) -> None:
    cycle(world, 5)
    before, began = figures(), time.monotonic()
    cycle(world, times)
    took_s, after = time.monotonic() - began, figures()
    assert world.leftovers() == []
    assert after[:2] == before[:2]
    assert after[2] - before[2] < 8
    names = ("descriptors", "children", "MiB")
    leaks = ", ".join(f"{there - here:+d} {name}" for name, here, there in zip(names, before, after, strict=True))
    announce(f"{times} cycles in {took_s:.1f} s, {times / took_s:.1f} a second; leaked: {leaks}, 0 of the node's")
