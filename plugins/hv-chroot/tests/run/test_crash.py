"""The caller is killed at its system calls, one after the other; after recovery the instance runs well or not at all.

The caller is killed before the N-th of its calls that change something outside of the process, or wait: the state between
two of them is the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kill_at_call
import pytest
from images import Build, Images, Leftovers

import hvcore
from hvcore.host.processes.search import rooted as rooted_in
from hvcore.state.store import Store

pytestmark = [pytest.mark.live, pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs x86-64")]

# What the child runs: everything is imported and read before the mark.
_CHILD = """\
import json, signal, sys, threading
import hvcore
def mark():
    # Sent to this thread, not to the process: another thread may take a signal that is sent to the process.
    signal.pthread_kill(threading.main_thread().ident, signal.SIGSTOP)
verb, run_dir, data = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
node = hvcore.Node(run_dir)
driver = node.driver("chroot")
instance = node.check(data)
mark()
if verb == "start":
    driver.start(instance)
elif verb == "attach":
    node.attach("web1", hvcore.ListedDevice(param="binds", item="/usr/share:/data"))
elif verb == "detach":
    node.detach("web1", "/data")
else:
    node.stop("web1", force=verb == "kill")
mark()
"""

# Its stop takes a moment, so that there is something to interrupt.
_SCRIPT = """\
    #!/bin/sh
    [ -c /dev/null ] || : > /dev/null
    case $1 in
      start) sleep 1000 & echo $! > /daemon; sleep 0.02 ;;
      stop) sleep 0.02; kill $(cat /daemon) ;;
    esac
"""


_KINDS_OF_INSTANCES: dict[str, dict[str, Any]] = {
    "all": {"network": "none", "overlay": "memory", "resolv_conf": "node", "binds": ["/usr:/usr"], "process_limit": 50},
    "plain": {"isolation": "none"},
    "whole": {
        "network": "veth",
        "network_addresses": ["10.77.0.2/24"],
        "network_gateways": ["10.77.0.1"],
        "user_namespace": "on",
        "overlay": "memory",
        "memory_limit": 64,
        "cpu_limit": 100,
        "process_limit": 50,
    },
}


# With a directory as the root.
_KINDS_OF_ROOTS: dict[str, dict[str, Any]] = {
    "directory": {},
    "directory-in-memory": {"overlay": "memory"},
    "directory-with-users": {"user_namespace": "on"},
    "changes-in-a-directory": {"overlay": "directory", "overlay_directory": "CHANGES"},
}


class Sweep:
    """Runs one verb in a child process, and kills it at a point."""

    def __init__(self, node: hvcore.Node, instance: hvcore.Instance) -> None:
        self.node = node
        self.instance = instance
        data = {
            "name": instance.name,
            "driver": "chroot",
            "disks": [{"path": disk.path} for disk in instance.disks],
            "nics": [{"mode": nic.mode, "link": nic.link} for nic in instance.nics],
            "params": dict(instance.params),
        }
        self.child = [sys.executable, "-c", _CHILD]
        self.arguments = [str(node.run_dir), json.dumps(data)]

    def _run(self, verb: str, number: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, kill_at_call.__file__, str(number), *self.child, verb, *self.arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)

    def points(self, verb: str) -> list[tuple[str, int]]:
        """Every call of interest between the marks, as (its name, how many-th it is)."""
        done = self._run(verb, 0)
        assert done.returncode == 0, done.stderr
        return [(name, number) for number, name in enumerate(done.stdout.split(), 1)]

    def crash(self, verb: str, number: int) -> bool:
        """Run the verb with the kill; False when it ended before that point."""
        return self._run(verb, number).returncode == 0


@pytest.fixture
def sweep(node: hvcore.Node, images: Any, web1: Build, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    return Sweep(node, web1(images(_SCRIPT)))


def usual_points(sweep: Sweep, verb: str) -> list[tuple[str, int]]:
    """The points of a run without anything special: the first one fills caches, and another may wait for a busy disk."""
    found: list[list[tuple[str, int]]] = []
    for _ in range(5):
        if verb != "start":
            sweep.node.driver("chroot").start(sweep.instance)
        points = sweep.points(verb)
        if verb == "start":
            sweep.node.stop("web1", force=True)
        if points in found:
            return points
        found.append(points)
    return min(found, key=len)


def survives(sweep: Sweep, leftovers: Leftovers, verb: str, every: int) -> None:
    """Crash and recover: the instance runs or has left nothing; then a clean start and stop work."""
    driver = sweep.node.driver("chroot")
    points = usual_points(sweep, verb)
    assert len(points) > 20
    healthy = (hvcore.State.RUNNING,) if verb != "stop" else (hvcore.State.RUNNING, hvcore.State.SHUTDOWN)
    outcomes: Counter[str] = Counter()
    for kind, count in points[::every]:
        if verb != "start":
            driver.start(sweep.instance)
        reached = sweep.crash(verb, count)
        recovered = sweep.node.recover()
        assert not [result for result in recovered if result.what == "failed"], (kind, count, recovered)
        infos = sweep.node.instances()
        states = [info.state for info in infos]
        # A stop script goes on when its caller is killed, and may have ended the instance since.
        assert not states or states[0] in healthy, (kind, count, infos)
        if not states:
            assert leftovers() == [], (kind, count)
        outcomes["not reached"] += not reached
        outcomes[f"{recovered[0].what if recovered else 'nothing'}, {'running' if states else 'gone'}"] += 1
        driver.start(sweep.instance)
        sweep.node.stop("web1", force=True)
        assert leftovers() == [], (kind, count)
    # On a busy node, another run waits more often, or less.
    assert outcomes["not reached"] <= max(1, len(points[::every]) / 3), outcomes
    sys.stdout.write(f"{verb}: {len(points[::every])} of {len(points)} points: {dict(outcomes)}\n")


@pytest.mark.parametrize("verb", ["start", "stop", "kill"])
def test_caller_killed_at_some_system_calls(sweep: Sweep, leftovers: Leftovers, verb: str) -> None:
    survives(sweep, leftovers, verb, every=40)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", ["start", "stop", "kill"])
def test_caller_killed_at_every_system_call(sweep: Sweep, leftovers: Leftovers, verb: str) -> None:
    survives(sweep, leftovers, verb, every=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", ["start", "stop", "kill"])
@pytest.mark.parametrize("kind", sorted(_KINDS_OF_INSTANCES))
def test_caller_killed_at_many_system_calls_with_more_to_undo(
    net: Any, sweep: Sweep, web1: Build, leftovers: Leftovers, verb: str, kind: str
) -> None:
    instance = web1(sweep.instance.disks[0].path, **_KINDS_OF_INSTANCES[kind])
    if kind == "whole":
        instance = replace(instance, nics=(hvcore.Nic(mode="bridged", link="br0"),))
    survives(Sweep(sweep.node, instance), leftovers, verb, every=3)


def bind_survives(sweep: Sweep, leftovers: Leftovers, verb: str, every: int) -> None:
    """Crash and recover: the instance runs, and has the bind or has not; then one more detach leaves nothing of it."""
    node, bind = sweep.node, hvcore.ListedDevice(param="binds", item="/usr/share:/data")
    node.driver("chroot").start(sweep.instance)

    def seen() -> tuple[int, int, list[str]]:
        record = Store(node.run_dir).load("web1")
        assert record is not None
        pid = record.process.pid if record.process else next(iter(rooted_in(node.run_dir / "instances/web1/root"))).pid
        tables = (Path("/proc/self/mountinfo"), Path(f"/proc/{pid}/mountinfo"))
        ours, theirs = (table.read_bytes().count(b"/data ") for table in tables)
        return ours, theirs, [entry.key for entry in record.ledger]

    def prepare() -> None:
        if "/data" in node.info("web1").devices:
            node.detach("web1", "/data")
        if verb == "detach":
            node.attach("web1", bind)

    before = seen()
    prepare()
    points = sweep.points(verb)
    assert len(points) > 15
    outcomes: Counter[str] = Counter()
    for kind, count in points[::every]:
        prepare()
        outcomes["not reached"] += not sweep.crash(verb, count)
        found = node.recover()
        assert not [one for one in found if one.what == "failed"], (kind, count, found)
        assert node.info("web1").state is hvcore.State.RUNNING
        has = "/data" in node.info("web1").devices
        ours, theirs, _ = seen()
        assert (ours, theirs) == ((before[0] + 1, before[1] + 1) if has else before[:2]), (kind, count, found)
        outcomes[f"{found[0].what if found else 'nothing'}, {'there' if has else 'gone'}"] += 1
    if "/data" in node.info("web1").devices:
        node.detach("web1", "/data")
    assert seen() == before
    assert outcomes["not reached"] <= max(1, len(points[::every]) / 3), outcomes
    node.stop("web1", force=True)
    assert leftovers() == []
    sys.stdout.write(f"{verb} of a bind: {len(points[::every])} of {len(points)} points: {dict(outcomes)}\n")


@pytest.mark.parametrize("verb", ["attach", "detach"])
def test_caller_killed_at_some_calls_of_a_bind(sweep: Sweep, leftovers: Leftovers, verb: str) -> None:
    bind_survives(sweep, leftovers, verb, every=12)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", ["attach", "detach"])
@pytest.mark.parametrize("how", [{"user_namespace": "on"}, {"isolation": "none"}])
def test_caller_killed_at_every_call_of_a_bind(
    sweep: Sweep, web1: Build, leftovers: Leftovers, verb: str, how: dict[str, str]
) -> None:
    instance = web1(sweep.instance.disks[0].path, **how)
    bind_survives(Sweep(sweep.node, instance), leftovers, verb, every=1)


@pytest.fixture
def rooted(
    node: hvcore.Node, images: Images, web1: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Sweep]:
    """A sweep of that kind of `_KINDS_OF_ROOTS`."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    changes = tmp_path / "changes"
    changes.mkdir()

    def make(kind: str) -> Sweep:
        given = {key: str(changes) if value == "CHANGES" else value for key, value in _KINDS_OF_ROOTS[kind].items()}
        return Sweep(node, web1(images.tree(_SCRIPT), **given))

    return make


def test_caller_killed_at_some_system_calls_where_the_root_is_a_directory(
    rooted: Callable[[str], Sweep], leftovers: Leftovers
) -> None:
    survives(rooted("changes-in-a-directory"), leftovers, "start", every=60)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("verb", ["start", "stop", "kill"])
@pytest.mark.parametrize("kind", sorted(_KINDS_OF_ROOTS))
def test_caller_killed_at_many_system_calls_where_the_root_is_a_directory(
    rooted: Callable[[str], Sweep], leftovers: Leftovers, verb: str, kind: str
) -> None:
    survives(rooted(kind), leftovers, verb, every=3)


def test_start_that_had_succeeded_is_finished_by_recovery(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    # As after a crash between the end of the script and the last write of the record.
    from hvcore.model.record import Phase

    node.driver("chroot").start(web1(images(_SCRIPT)))
    store = Store(tmp_path / "run")
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, phase=Phase.STARTING, process=None, monitor=None, bindings={}))
    (result,) = node.recover()
    assert (result.what, node.info("web1").state) == ("finished", hvcore.State.RUNNING)
    assert node.stop("web1").stopped_by == "script"


def test_damaged_record_of_a_running_instance_is_released_by_force(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    node.driver("chroot").start(web1(images(_SCRIPT)))
    (tmp_path / "run/instances/web1/record.json").write_bytes(b"{")
    assert node.info("web1").state is hvcore.State.UNKNOWN
    assert node.stop("web1", force=True).changed
    shutil.rmtree(tmp_path / "run/damaged")
