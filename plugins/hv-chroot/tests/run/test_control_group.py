"""The control group: limits and freezing."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
import hvcore.host.launching.launch
import hvcore.plugin
from hvcore.host.cgroups.hierarchy import control_groups
from hvcore.host.launching.scheduling import killed_last
from hvcore.host.processes.launched import read_status
from hvcore.host.processes.process import parent_of
from hvcore.host.processes.search import processes_in_pid_namespace

NODE = control_groups()
pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not NODE.usable or os.geteuid() != 0, reason="needs root, and control groups to write to"),
]


COUNTS = """\
    #!/bin/sh
    [ $1 = stop ] && exec kill -9 -1
    (while :; do echo x >> /count; sleep 0.01; done) > /dev/null 2>&1 &
"""


def grows(path: Path, within_s: float) -> bool:
    before, give_up = path.stat().st_size, time.monotonic() + within_s
    while path.stat().st_size == before and time.monotonic() < give_up:
        time.sleep(0.01)  # as long as one step takes: no event shows that there was one
    return path.stat().st_size > before


def test_no_process_of_a_paused_instance_runs_until_it_is_resumed(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    tree = images.tree(COUNTS)
    node.driver("chroot").start(web1(tree))
    assert node.pause("web1").changed
    assert node.info("web1").state is hvcore.State.PAUSED
    assert not grows(tree / "count", 0.1)
    assert not node.pause("web1").changed
    assert node.resume("web1").changed
    assert node.info("web1").state is hvcore.State.RUNNING
    assert grows(tree / "count", 60)
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []


@pytest.mark.parametrize("force", [True, False])
def test_a_paused_instance_can_be_stopped(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, *, force: bool
) -> None:
    node.driver("chroot").start(web1(images(COUNTS)))
    node.pause("web1")
    assert node.info("web1").state is hvcore.State.PAUSED
    assert node.stop("web1", force=force).stopped_by == ("kill" if force else "script")
    assert leftovers() == []


@pytest.mark.skipif(
    bool(NODE.problems(hvcore.plugin.GroupLimits(processes=1))), reason="this node has no pids controller"
)
def test_fork_fails_at_the_process_limit(node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers) -> None:
    script = """\
        #!/bin/sh
        [ $1 = stop ] && exit 0
        i=0; while [ $i -lt 40 ]; do (sleep 1000 &) || echo no more; i=$((i+1)); done 2>/forks
    """
    tree = images.tree(script)
    node.driver("chroot").start(web1(tree, process_limit=20))
    processes = node.info("web1").details["processes"]
    assert 10 <= processes <= 20
    node.stop("web1")
    assert leftovers() == []


@pytest.mark.skipif(bool(NODE.problems(hvcore.plugin.GroupLimits(memory_bytes=1))), reason="no memory controller here")
def test_memory_limit_is_kept(node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers) -> None:
    script = "#!/bin/sh\nhead -c 100000000 /dev/zero | tail -c 90000000 > /dev/null || exit 5\n"
    what = r"web1: /ganeti-chroot start failed, oom-killed: [1-9] process(es)?, at its limit of 16 MiB; raise params.memory_limit"
    with pytest.raises(hvcore.LaunchError, match=what):
        node.driver("chroot").start(web1(images(script), memory_limit=16))
    assert leftovers() == []


def score(pid: int | str) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def may_lower_scores() -> bool:
    """Whether this root has CAP_SYS_RESOURCE, which lowering an OOM score takes."""
    with subprocess.Popen(["sleep", "60"]) as child:
        killed_last(child.pid)
        lowered = score(child.pid) < 0
        child.kill()
    return lowered


def test_only_what_watches_it_is_spared_by_the_kernel(
    node: hvcore.Node, images: Any, web1: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monitors while the script runs, the init once it starts no more processes, and never a process inside."""
    spared: list[int] = []

    def recording(pid: int) -> None:
        spared.append(pid)
        killed_last(pid)

    monkeypatch.setattr(hvcore.host.launching.launch, "killed_last", recording)
    script = """\
        #!/bin/sh
        [ $1 = stop ] && exit 0
        cat /proc/self/oom_score_adj > /score
        sleep 1000 &
        touch /waiting; while [ ! -e /go ]; do sleep 0.1; done
    """
    tree, lowers = images.tree(script), may_lower_scores()
    with ThreadPoolExecutor() as pool:
        started = pool.submit(node.driver("chroot").start, web1(tree))
        give_up = time.monotonic() + 60
        while not ((tree / "waiting").exists() and spared):
            assert time.monotonic() < give_up
            time.sleep(0.01)
        init = read_status(node.run_dir / "instances/web1/status").pid
        assert init is not None
        monitor = parent_of(init)
        assert spared == [monitor, parent_of(monitor)]
        assert {score(pid) for pid in spared} == {-999 if lowers else 0}
        (tree / "go").touch()
        assert started.result().changed
    assert spared[2:] == [init] == [node.info("web1").pid]
    assert (tree / "score").read_text() == "0\n"
    inside = {one.pid for one in processes_in_pid_namespace(os.stat(f"/proc/{init}/ns/pid").st_ino)}
    assert len(inside) > 1
    assert {pid: score(pid) for pid in inside} == {pid: -999 if pid == init and lowers else 0 for pid in inside}
    entered = node.execution("web1", ["/bin/cat", "/proc/self/oom_score_adj"])
    assert subprocess.run(entered.argv, check=True, capture_output=True).stdout == b"0\n"
    node.stop("web1", force=True)


def test_without_a_kill_the_memory_limit_is_not_blamed(node: hvcore.Node, images: Any, web1: Build) -> None:
    with pytest.raises(hvcore.LaunchError, match="start exited with 5 after") as caught:
        node.driver("chroot").start(web1(images("#!/bin/sh\nexit 5\n"), memory_limit=16))
    assert "oom" not in str(caught.value)


@pytest.mark.skipif(bool(NODE.problems(hvcore.plugin.GroupLimits(memory_bytes=1))), reason="no memory controller here")
def test_processes_killed_at_the_memory_limit_are_reported(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    script = """\
        #!/bin/sh
        [ $1 = stop ] && exec kill -9 -1
        head -c 100000000 /dev/zero | tail -c 90000000 > /dev/null
        sleep 1000 &
    """
    node.driver("chroot").start(web1(images(script), memory_limit=16))
    info, reason = node.info("web1"), "oom-killed: 1 process, at its limit of 16 MiB"
    assert (info.state, info.reason) == (hvcore.State.RUNNING, reason)
    assert info.pid is not None
    init = hvcore.plugin.identify(info.pid)
    assert init is not None
    os.kill(init.pid, signal.SIGKILL)
    assert hvcore.plugin.wait_gone(init, 10.0)
    info = node.info("web1")
    assert (info.state, info.reason) == (hvcore.State.CRASHED, reason)
    node.stop("web1", force=True)
    assert leftovers() == []


def test_a_process_that_enters_is_in_the_group_too(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    ran = subprocess.run(
        node.console("web1").argv, input=b"cat /proc/self/cgroup\nexit\n", capture_output=True, check=False
    )
    assert b"/hvcore/web1." in ran.stdout
    node.stop("web1", force=True)


def test_node_without_a_freezer_says_so(images: Any, web1: Build, tmp_path: Path, node: hvcore.Node) -> None:
    from hv_chroot.run.observe import freeze
    from hvcore.deadline import Deadline

    node.driver("chroot").start(web1(images()))
    record = node._context.store.load("web1")
    assert record is not None
    without = hvcore.plugin.Host(
        run_dir=tmp_path / "run", privileged=True, uid_pool=range(1), cgroups=control_groups(b"")
    )
    live = hvcore.plugin.Live(record=record, dir=tmp_path / "run/instances/web1", host=without)
    job = node._context.job(record, Deadline(1.0))
    with pytest.raises(
        hvcore.UnsupportedError, match="does not support pause here, this node has no writable control groups"
    ):
        freeze(live, job)
    node.stop("web1", force=True)
