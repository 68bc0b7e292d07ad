"""A guest inherits nothing from whoever starts it: no control group, no CPUs, no priority, no umask."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from world import World

import hvcore
import hvcore.plugin as hv

GROUPS: Final = hv.Host(run_dir=Path("/"), privileged=True, uid_pool=range(0)).cgroups
pytestmark = [pytest.mark.live, pytest.mark.usefixtures("root")]


@pytest.fixture
def callers_group() -> Iterator[str]:
    """A group of cgroup v2 as a service or a session has it."""
    if GROUPS.unified is None:
        pytest.skip("this node has no cgroup v2")
    group = f"{GROUPS.unified}/hvcore-test-{os.getpid()}"
    os.mkdir(group)
    yield group
    while Path(group, "cgroup.procs").read_text():
        os.sched_yield()
    os.rmdir(group)


def in_child(act: Callable[[], object]) -> None:
    """Do it in a forked process, which ends with it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            act()
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the parent must not go on twice
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def in_group(group: str, act: Callable[[], object]) -> None:
    def enter_and_act() -> None:
        Path(group, "cgroup.procs").write_text("0")
        act()

    in_child(enter_and_act)


@pytest.mark.parametrize("confinement", ["strict", "off"])
def test_a_guest_outlives_the_control_group_of_its_caller(world: World, callers_group: str, confinement: str) -> None:
    more: dict[str, Any] = {"confinement": "off", "security_model": "none"} if confinement == "off" else {}
    in_group(callers_group, lambda: world.start(**more))
    assert not Path(callers_group, "cgroup.procs").read_text()
    Path(callers_group, "cgroup.kill").write_text("1")
    assert world.info().state is hvcore.State.RUNNING
    assert world.node.stop("web1", force=True).stopped_by == "quit"


def test_a_guest_that_is_rebooted_from_a_service_outlives_it(world: World, callers_group: str) -> None:
    world.start()
    in_group(callers_group, lambda: world.node.reboot("web1", force=True))
    Path(callers_group, "cgroup.kill").write_text("1")
    assert world.info().state is hvcore.State.RUNNING


def test_a_guest_has_left_the_callers_cpuset(world: World) -> None:
    top = GROUPS.by_controller.get("cpuset")
    cpus = sorted(os.sched_getaffinity(0))
    if top is None or len(cpus) < 2:
        pytest.skip("needs the cpuset controller of cgroup v1, and two CPUs")
    group = f"{top}/hvcore-test-{os.getpid()}"
    os.mkdir(group)
    try:
        for name, value in (("cpuset.cpus", str(cpus[0])), ("cpuset.mems", "0")):
            Path(group, name).write_text(value)
        in_group(group, lambda: world.start(cpu_mask=str(cpus[-1])))
        assert os.sched_getaffinity(world.pid()) == {cpus[-1]}
    finally:
        os.rmdir(group)


def test_a_guest_has_its_own_priority_and_umask(world: World) -> None:
    def start() -> None:
        os.nice(9)
        os.umask(0o077)
        Path("/proc/self/oom_score_adj").write_text("500")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        world.start()

    in_child(start)
    process = Path("/proc", str(world.pid()))
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    assert status["Umask"].strip() == "0022"
    assert int(status["SigBlk"], 16) & 1 << (signal.SIGTERM - 1) == 0
    assert os.getpriority(os.PRIO_PROCESS, world.pid()) == 0
    assert (process / "oom_score_adj").read_text().strip() == "0"


def test_the_plan_shows_what_is_not_inherited(world: World) -> None:
    steps = [str(step.what) for step in world.kvm.plan(world.instance()).steps]
    assert any("the CPUs of the node, nice 0" in step for step in steps)
    assert any("its own control group, if the node allows one" in step for step in steps)
