"""The caller dies, or the node refuses, at every call that changes a file; then another caller operates.

In the default run the calls are counted by Python's own audit events, in a forked child: a few milliseconds for each.
`write` and `fsync` have no such event: the slow tests inject by strace, at the system calls themselves.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import InChild, Web
from killed import at_event, count, die

from hvcore import Disk, DriverHandle, EndedBy, HvError, Instance, Node, State
from hvcore.model.record import Phase
from hvcore.state.store import Store

pytestmark = pytest.mark.heavy  # an operation is cut short at each of its system calls

Check = Callable[[], None]
OPERATIONS: dict[str, Callable[[Node, Instance], object]] = {
    "start": lambda node, web: node.driver("fake").start(web),
    "stop": lambda node, web: node.stop(web.name),
    "stop --force": lambda node, web: node.stop(web.name, force=True),
    "pause": lambda node, web: node.pause(web.name),
    "reboot": lambda node, web: node.reboot(web.name),
    "attach": lambda node, web: node.attach(web.name, Disk(path="/srv/more.img")),
    "detach": lambda node, web: node.detach(web.name, "disk0"),
}
# A forced stop and a reboot are made of the same steps.
FAST = ["start", "stop", "pause", "attach"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("stop --force", "reboot", "detach")]
# Of the changes: each with the slow tests, else every third.
STEPS = pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.slow, id="each")])


def with_disk(web: Instance) -> Instance:
    return replace(web, disks=(Disk(path="/srv/a.img"),))


@STEPS
@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_a_caller_killed_anywhere_leaves_the_instance_running_or_gone(
    name: str, step: int, here: Any, web: Web, in_child: InChild
) -> None:
    node, fake, run_dir = here.node, here.fake, here.run_dir
    operation = OPERATIONS[name]
    fake.start(with_disk(web()))  # whatever is made only once is there before anything is counted
    if name == "start":
        node.stop("web1")
    if name == "reboot":
        node.reboot("web1")
    total = count(in_child, lambda: operation(Node(run_dir), web()), run_dir)
    assert total > 5
    for number in range(1, total + 1, step):
        node.stop("web1", force=True)
        if name != "start":
            fake.start(with_disk(web()))

        def killed(number: int = number) -> None:
            at_event(number, die, run_dir)
            operation(Node(run_dir), web())

        assert in_child(killed) == signal.SIGKILL
        node.info("web1") if node.instances() else None  # looking is always possible
        assert not [result for result in node.recover() if result.what == "failed"]
        assert {info.state for info in node.instances()} <= {State.RUNNING, State.PAUSED} | kept_machine(name, node)
        assert node.recover() == []  # there is nothing left to do
        if not node.instances():
            nothing_left_but_locks(run_dir)
            assert fake.start(web()).changed
    node.stop("web1", force=True)
    assert node.instances() == []


def kept_machine(name: str, node: Node) -> set[State]:
    """A reboot that stopped the instance and could not start it keeps its machine for another reboot."""
    return {info.state for info in node.instances() if name == "reboot" and info.ended_by is EndedBy.REBOOT}


def nothing_left_but_locks(run_dir: Path) -> None:
    """The lock file of a killed caller stays and delays no other."""
    for folder in ("instances", "reservations/uid"):
        assert not (run_dir / folder).exists() or os.listdir(run_dir / folder) == []


@pytest.mark.parametrize(
    "errors",
    [
        pytest.param((errno.ENOSPC, errno.EIO), id="ENOSPC and EIO by turns"),
        pytest.param((errno.EIO, errno.ENOSPC), id="EIO and ENOSPC by turns", marks=pytest.mark.slow),
    ],
)
@STEPS
@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_what_the_node_refuses_anywhere_is_a_clear_error_and_never_a_half(
    name: str, step: int, here: Any, web: Web, in_child: InChild, errors: tuple[int, int]
) -> None:
    node, fake, run_dir = here.node, here.fake, here.run_dir
    operation = OPERATIONS[name]
    fake.start(with_disk(web()))  # whatever is made only once is there before anything is counted
    if name == "start":
        node.stop("web1")
    total = count(in_child, lambda: operation(Node(run_dir), web()), run_dir)
    node.recover()

    for number in range(1, total + 1, step):
        text = os.strerror(errors[number % 2])

        def fail(number: int = number, text: str = text) -> None:
            raise OSError(errors[number % 2], text)

        node.stop("web1", force=True)
        if name != "start":
            fake.start(with_disk(web()))

        def refused(number: int = number, fail: Check = fail, text: str = text) -> None:
            at_event(number, fail, run_dir)
            try:
                operation(Node(run_dir), web())
            except HvError as error:
                assert text in str(error) + str(getattr(error, "__notes__", ""))  # noqa: PT017

        assert in_child(refused) == 0, f"at change {number} of {total}"
        assert not [result for result in node.recover() if result.what == "failed"]
        assert {info.state for info in node.instances()} <= {State.RUNNING, State.PAUSED} | kept_machine(name, node)


@STEPS
def test_an_interrupt_in_the_middle_of_a_start_undoes_it(
    step: int, node: Node, web: Web, run_dir: Path, in_child: InChild, nothing_left: Check
) -> None:
    total = count(in_child, lambda: OPERATIONS["start"](Node(run_dir), web()), run_dir)
    node.stop("web1", force=True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    def interrupted(number: int) -> None:
        at_event(number, interrupt, run_dir)
        with pytest.raises(KeyboardInterrupt):
            OPERATIONS["start"](Node(run_dir), web())

    for number in range(1, total + 1, step):
        in_child(interrupted, number)
        for info in node.instances():
            # After the last write it runs; a hook that was to undo it could not be undone itself.
            assert info.state is State.RUNNING or info.reason is not None
        node.recover()
        node.stop("web1", force=True)
    nothing_left()


def test_a_start_that_was_interrupted_is_seen_as_starting_and_then_undone(
    fake: DriverHandle, node: Node, web: Web, store: Store, uids: Callable[[], dict[str, str]]
) -> None:
    fake.start(web())
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, phase=Phase.STARTING))
    assert node.info("web1").state is State.STARTING
    assert "interrupted" in str(node.info("web1").reason)
    (result,) = node.recover()
    assert (result.name, result.what, result.detail) == ("web1", "undone", "its start was interrupted")
    assert result.to_json() == {"name": "web1", "what": "undone", "detail": "its start was interrupted"}
    assert uids() == {}


def test_a_stop_that_was_interrupted_while_it_still_ran_is_taken_back(
    fake: DriverHandle, node: Node, web: Web, store: Store
) -> None:
    fake.start(web())
    record = store.load("web1")
    assert record is not None
    store.save(replace(record, phase=Phase.STOPPING))
    assert node.info("web1").state is State.STOPPING
    assert [result.what for result in node.recover()] == ["taken back"]
    assert node.info("web1").state is State.RUNNING


# --------------------------------------------------------------------------- by strace, at the system calls themselves

CALLS = ("mkdir", "openat", "write", "pwrite64", "fsync", "rename", "symlink", "unlink", "unlinkat", "rmdir", "flock")
SCRIPT = """
import os, sys, hvcore
node = hvcore.Node(sys.argv[1]); driver = node.driver("fake")
web = hvcore.Instance(name="web1", driver="fake")
os.chdir(sys.argv[1])
os.getpgid(0)
try:
    driver.start(web) if sys.argv[2] == "start" else node.stop("web1")
except hvcore.HvError as error:
    print("error:", error)
os.getpgid(0)
os._exit(0)
"""


def traced(run_dir: Path, operation: str, log: Path, *inject: str) -> subprocess.CompletedProcess[str]:
    argv = ["strace", "-qq", "-o", str(log), "-e", f"trace={','.join(CALLS)},getpgid", *inject]
    argv += [sys.executable, "-c", SCRIPT, str(run_dir), operation]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=300)


def calls_of(run_dir: Path, operation: str, log: Path) -> list[tuple[str, int]]:
    """Every (call, number) between the two marks: what the operation itself does."""
    assert traced(run_dir, operation, log).returncode == 0
    seen: Counter[str] = Counter()
    inside: list[tuple[str, int]] = []
    marks = 0
    for line in log.read_text().splitlines():
        found = re.match(r"(\w+)\(", line)
        if found is None:
            continue
        seen[found[1]] += 1
        if found[1] == "getpgid":
            marks += 1
        elif marks == 1 and (found[1] != "openat" or str(run_dir) in line):  # not /proc, not modules
            inside.append((found[1], seen[found[1]]))
    assert marks == 2
    return inside


def sweep(operation: str, what: str, every: int, here: Any, web: Web) -> int:
    node, fake, run_dir, log = here.node, here.fake, here.run_dir, here.run_dir.with_name("trace")
    fake.start(web())  # whatever is made only once is there before anything is counted
    if operation == "start":
        node.stop("web1")
    points, reached = calls_of(run_dir, operation, log)[::every], 0
    for call, number in points:
        node.stop("web1", force=True)
        if operation == "stop":
            fake.start(web())
        ended = traced(run_dir, operation, log, "-e", f"inject={call}:{what}:when={number}")
        if what.startswith("signal"):
            # The operation makes fewer calls when fewer other processes are in /proc: then it ends before that one.
            killed = ended.returncode == -signal.SIGKILL
            assert killed or (ended.returncode, ended.stdout) == (0, ""), (call, number, ended)
            reached += killed
        else:
            assert (ended.returncode, ended.stderr) == (0, ""), (call, number, ended)
            reached += 1
        assert not [result for result in node.recover() if result.what == "failed"], (call, number)
        assert {info.state for info in node.instances()} <= {State.RUNNING}, (call, number)
        if not node.instances():
            nothing_left_but_locks(run_dir)
            assert fake.start(web()).changed
    node.stop("web1", force=True)
    return reached


@pytest.mark.live
@pytest.mark.parametrize("operation", ["start", "stop"])
def test_a_kill_at_some_of_the_system_calls_leaves_it_running_or_gone(
    operation: str, here: Any, web: Web, tool: Callable[[str], str]
) -> None:
    tool("strace")
    assert sweep(operation, "signal=KILL", 7, here, web) > 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["signal=KILL", "error=ENOSPC", "error=EIO"])
@pytest.mark.parametrize("operation", ["start", "stop"])
def test_a_kill_or_an_error_at_every_system_call_leaves_it_running_or_gone(
    operation: str, what: str, here: Any, web: Web, tool: Callable[[str], str]
) -> None:
    tool("strace")
    assert sweep(operation, what, 1, here, web) > 15
