"""A control group: checked before a start, in the ledger by its name, and removed with everything in it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest
from fake_kernel import FakeKernel

from hvcore.plugin import ControlGroup, ControlGroups, GroupLimits, Job, NodeError, Site
from hvcore.resources.control_group import ControlGroupKind

AtWork = Callable[..., Job]
PLAIN = ControlGroup(key="cgroup", given_by="params.enforce_limits")
LIMITED = ControlGroup(
    key="cgroup",
    given_by="params.enforce_limits",
    limits=GroupLimits(memory_bytes=64 << 20, cpus=1.5, processes=20),
)


def test_it_is_made_with_its_limits_and_goes_with_the_release(at_work: AtWork) -> None:
    kernel = FakeKernel()
    job = at_work(cgroups=kernel.node())
    assert job.acquire(LIMITED)[LIMITED] is True
    (entry,) = job.record.ledger
    (made,) = [directory for directory in kernel.groups if directory.endswith(entry.data["name"])]
    assert kernel.wrote[f"{made}/pids.max"] == "20"
    live = job.live.group
    assert live is not None
    assert list(live.directories) == [made]
    job.release()
    job.release()
    assert made not in kernel.groups


def test_the_kernel_begins_to_wait_before_the_process_enters(at_work: AtWork) -> None:
    begun, ended = threading.Event(), threading.Event()

    class Waiting(FakeKernel):
        def write(self, path: str, text: str) -> None:
            if not path.endswith("/cgroup.threads"):
                super().write(path, text)
                return
            assert text == str(threading.get_native_id())
            assert threading.current_thread() is not threading.main_thread()
            begun.set()
            assert ended.wait(60)
            raise OSError(errno.EOPNOTSUPP, "Operation not supported", path)

    job = at_work(cgroups=Waiting().node())
    assert job.acquire(PLAIN)[PLAIN] is True, "it does not wait for the kernel"
    assert begun.wait(60)
    ended.set()
    job.held.close()
    assert "expect entry" not in {thread.name for thread in threading.enumerate()}


def test_a_node_without_groups_gives_none_and_refuses_limits(at_work: AtWork, site: Callable[..., Site]) -> None:
    job = at_work(cgroups=ControlGroups())
    assert job.acquire(PLAIN)[PLAIN] is False
    assert job.record.ledger == ()
    assert list(ControlGroupKind().verify(PLAIN, site())) == []
    problems = [str(problem) for problem in ControlGroupKind().verify(LIMITED, site())]
    assert problems
    assert all(each.startswith("params.enforce_limits: the limits cannot be set, ") for each in problems)
    with pytest.raises(NodeError, match="web1: the limits cannot be set"):
        at_work("web1", cgroups=ControlGroups()).acquire(ControlGroup(key="another", limits=GroupLimits(processes=5)))


def test_steps_of_a_plan(site: Callable[..., Site]) -> None:
    steps = [str(step.what) for group in (PLAIN, LIMITED) for step in ControlGroupKind().describe(group, site())]
    otherwise, most = (
        "otherwise the instance stays in the caller's group and ends with it",
        "64 MiB of memory, 150 % of one cpu, 18 processes",
    )
    assert steps == [
        f"its own control group, if the node allows one, without limits; {otherwise}",
        f"its own control group, if the node allows one, with at most {most}; {otherwise}",
    ]
    assert ControlGroupKind().placeholder(PLAIN, site(cgroups=FakeKernel().node())) is True
    assert ControlGroupKind().placeholder(PLAIN, site()) is False
