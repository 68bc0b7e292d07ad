"""An instance's control group: made before its process, removed with it; no other group is touched."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fake_kernel import FakeKernel
from sleeper import Sleeper, SleeperSpec

import hvcore
from hvcore import Instance, NodeError, StateError
from hvcore.deadline import Deadline
from hvcore.host.cgroups.hierarchy import ControlGroups, control_groups, group_name
from hvcore.host.environment import Host
from hvcore.host.processes.process import alive
from hvcore.operations.context import Context
from hvcore.operations.inspection.observe import observed
from hvcore.operations.lifecycle.start import start
from hvcore.operations.lifecycle.stop import stop
from hvcore.operations.recovery.recover import recover_all
from hvcore.plugin import AsUser, ControlGroup, Group, GroupLimits, Job, Sandbox
from hvcore.plugins.loaded_driver import LoadedDriver
from hvcore.state.store import Store

HERE = control_groups()
pytestmark = pytest.mark.skipif(not HERE.usable, reason="no user can make control groups on this node")
Node = tuple[Context, LoadedDriver]


class Grouped(Sleeper):
    """A sleeper in a control group. ``after`` is called with the step that was just done."""

    limits: ClassVar[GroupLimits] = GroupLimits()
    after: ClassVar[Callable[[str], None]] = staticmethod(lambda step: None)

    def start(self, spec: SleeperSpec, job: Job) -> None:
        job.acquire(ControlGroup(key="cgroup", limits=self.limits))
        type(self).after("group")
        super().start(spec, job)


@pytest.fixture
def make(load: Callable[..., LoadedDriver], run_dir: Path) -> Callable[..., Node]:
    def build(cgroups: ControlGroups = HERE, **changed: Any) -> Node:
        sandbox = Sandbox(who=AsUser(1_880_000_000)) if os.geteuid() == 0 else None
        loaded = load(type("Made", (Grouped,), {"sandbox": sandbox, **changed}))
        host = Host(run_dir=run_dir, privileged=True, uid_pool=range(1_880_000_000, 1_880_000_100), cgroups=cgroups)
        context = Context(host=host, store=Store(run_dir), driver=lambda name: loaded, progress=lambda text: None)
        return context, loaded

    return build


@pytest.fixture
def group(run_dir: Path) -> Iterator[Group]:
    """The control group of web1. It is removed at the end of the test, even after a failure."""
    group = Group(group_name(run_dir, "web1"), HERE)
    yield group
    group.kill(5)
    group.remove()


def bring_up(node: Node) -> hvcore.Outcome:
    context, loaded = node
    return start(context, loaded, Instance(name="web1", driver="fake"), paused=False, deadline=Deadline(10))


def is_there(group: Group) -> bool:
    return any(os.path.exists(directory) for directory in group.directories)


def test_all_of_an_instance_is_in_its_group_and_the_group_goes_with_it(make: Callable[..., Node], group: Group) -> None:
    node = make(limits=GroupLimits(processes=20))
    bring_up(node)
    seen = observed(node[0], "web1")
    assert seen.record is not None
    assert seen.record.process is not None
    assert seen.record.process.pid in group.pids()
    live = node[0].live(seen.record).group
    assert live is not None
    assert live.directories == group.directories
    stop(node[0], "web1", force=True, deadline=Deadline(10))
    assert not is_there(group)


class Latecomer(FakeKernel):
    """A kernel in which a process enters the group at the moment of its removal."""

    late: subprocess.Popen[bytes] | None = None

    def remove(self, directory: str) -> None:
        if self.late is not None and directory in self.groups:
            self.groups[directory].pids.add(self.late.pid)
            self.late = None
        super().remove(directory)


def test_who_was_on_the_way_in_ends_with_the_rest(make: Callable[..., Node]) -> None:
    # As a stop script whose caller has been killed: it enters after the others have been ended.
    kernel = Latecomer()
    node = make(kernel.node())
    bring_up(node)
    with subprocess.Popen(["sleep", "1000"]) as late:
        kernel.late = late
        try:
            assert stop(node[0], "web1", force=True, deadline=Deadline(10)).changed
            assert late.wait(60) == -signal.SIGKILL
        finally:
            late.kill()
    assert not [name for name in kernel.groups if "web1" in name]


@pytest.mark.parametrize("step", ["group", "launch"])
def test_a_start_whose_caller_is_killed_leaves_neither_group_nor_process(
    make: Callable[..., Node], group: Group, in_child: Callable[..., int], step: str
) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    after = (lambda done: die() if done == step else None) if step == "group" else (lambda done: None)
    meanwhile = die if step == "launch" else (lambda: None)
    node = make(after=staticmethod(after), meanwhile=staticmethod(meanwhile))
    assert in_child(bring_up, node) == signal.SIGKILL
    assert is_there(group)
    assert [found.what for found in recover_all(node[0], 10)] == ["undone"]
    assert not is_there(group)
    assert node[0].store.names() == []


def test_a_foreign_process_in_a_group_of_that_name_is_left_alone(make: Callable[..., Node], group: Group) -> None:
    group.create(GroupLimits())
    with subprocess.Popen(["sleep", "100"]) as stranger:
        group.enter(stranger.pid)
        with pytest.raises(StateError) as caught:
            bring_up(make())
        assert f"web1: still runs as pid {stranger.pid}" in "".join(caught.value.__notes__)
        assert stranger.poll() is None
        assert group.pids() == [stranger.pid]
        stranger.kill()


def test_an_empty_group_of_that_name_is_taken_over(make: Callable[..., Node], group: Group) -> None:
    group.create(GroupLimits())
    node = make()
    bring_up(node)
    assert group.pids()
    stop(node[0], "web1", force=True, deadline=Deadline(10))
    assert not is_there(group)


def test_a_group_that_was_removed_under_the_instance_does_not_keep_it_from_being_stopped(
    make: Callable[..., Node], group: Group
) -> None:
    node = make()
    bring_up(node)
    for pid in group.holders():
        for directory in group.directories:
            Path(directory).parent.parent.joinpath("cgroup.procs").write_text(str(pid))
    group.remove()
    process = observed(node[0], "web1").record
    stop(node[0], "web1", force=True, deadline=Deadline(10))
    assert process is not None
    assert process.process is not None
    assert not alive(process.process)


def test_with_a_damaged_record_the_group_is_ended_too(make: Callable[..., Node], group: Group, run_dir: Path) -> None:
    node = make()
    bring_up(node)
    with subprocess.Popen(["sleep", "100"]) as straggler:  # without mark or lock: only the group has it
        group.enter(straggler.pid)
        (run_dir / "instances/web1/record.json").write_bytes(b"torn")
        outcome = stop(node[0], "web1", force=True, deadline=Deadline(10))
        assert f"ended pid {straggler.pid}" in outcome.notes
        assert straggler.wait(60) == -signal.SIGKILL
    assert not is_there(group)


def test_a_node_without_groups_runs_it_as_before_and_refuses_limits(make: Callable[..., Node]) -> None:
    node = make(cgroups=ControlGroups())
    bring_up(node)
    seen = observed(node[0], "web1").record
    assert seen is not None
    assert "cgroup" not in {entry.kind for entry in seen.ledger}
    assert node[0].live(seen).group is None
    stop(node[0], "web1", force=True, deadline=Deadline(10))
    with pytest.raises(NodeError, match="web1: the limits cannot be set, no usable pids controller"):
        bring_up(make(cgroups=ControlGroups(), limits=GroupLimits(processes=5)))
