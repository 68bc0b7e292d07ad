"""Control groups: the same tests on this node's own, on its v1 alone, and on a v2 that has every controller."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fake_kernel import TOP, FakeKernel

from hvcore.errors import DeadlineError, NodeError
from hvcore.host.cgroups.group import Group, expect_entry
from hvcore.host.cgroups.hierarchy import ControlGroups, control_groups, group_name
from hvcore.host.processes.process import identify, wait_gone, wait_readable
from hvcore.model.limits import GroupLimits

REAL = control_groups()
V1 = replace(REAL, unified=None, shared_out=())
HAS_V1 = {"memory", "pids", "freezer"} <= set(V1.by_controller)
NO_LIMITS = GroupLimits()
FORKS = "import os\nwhile True:\n  if os.fork(): os._exit(0)"


def the_nodes() -> list[object]:
    here = pytest.mark.skipif(not REAL.usable, reason="this node does not allow control groups")
    v1 = pytest.mark.skipif(not HAS_V1, reason="this node has no cgroup v1")
    return [
        pytest.param(lambda: REAL, id="here", marks=here),
        pytest.param(lambda: V1, id="v1", marks=v1),
        pytest.param(lambda: FakeKernel().node(), id="v2"),
        pytest.param(lambda: FakeKernel(has_kill=False).node(), id="v2-before-5.14"),
    ]


@pytest.fixture(params=the_nodes())
def node(request: pytest.FixtureRequest) -> ControlGroups:
    made: ControlGroups = request.param()
    return made


@pytest.fixture
def group(node: ControlGroups, tmp_path: Path) -> Iterator[Group]:
    group = Group(group_name(tmp_path, "web1"), node)
    yield group
    group.thaw()
    group.kill(5)
    group.remove()


@pytest.fixture
def run() -> Iterator[Callable[..., int]]:
    """Start a program that is reaped at the end; its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*argv: str) -> int:
        started.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
        return started[-1].pid

    yield start
    for popen in started:
        popen.kill()
        popen.wait()


Run = Callable[..., int]


def has_exited(pid: int, within_s: float = 0.0) -> bool:
    process = identify(pid)
    return process is None or wait_gone(process, within_s)


class TestGroup:
    def test_processes_in_the_group_are_found_and_counted(self, group: Group, run: Run) -> None:
        group.create(NO_LIMITS)
        pid = run("sleep", "100")
        group.enter(pid)
        figures = group.figures()
        assert group.pids() == group.holders() == [pid]
        assert figures is not None
        assert (figures.processes, figures.oom_kills) == (1, 0)
        assert figures.memory_bytes is not None
        assert figures.cpu_seconds is not None

    def test_kill_ends_every_process(self, group: Group, run: Run) -> None:
        group.create(NO_LIMITS)
        pids = [run("sleep", "100") for _ in range(3)]
        for pid in pids:
            group.enter(pid)
        assert group.kill(5)
        assert all(has_exited(pid) for pid in pids)
        assert group.pids() == []
        assert not group.kill(5)

    def test_kill_ends_frozen_processes(self, group: Group, run: Run) -> None:
        group.create(NO_LIMITS)
        pid = run("sleep", "100")
        group.enter(pid)
        group.freeze(5)
        assert group.kill(5)
        assert has_exited(pid)

    def test_freeze_stops_a_process_and_thaw_continues_it(self, group: Group) -> None:
        group.create(NO_LIMITS)
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as cat:
            assert cat.stdin is not None
            assert cat.stdout is not None
            group.enter(cat.pid)
            assert not group.frozen()
            group.freeze(5)
            assert group.frozen()
            cat.stdin.write(b"x")
            assert not wait_readable(cat.stdout.fileno(), 0.05)
            group.thaw()
            assert not group.frozen()
            assert cat.stdout.read(1) == b"x"

    def test_wait_empty_returns_once_the_last_process_exits(self, group: Group, run: Run) -> None:
        group.create(NO_LIMITS)
        pid = run("sleep", "100")
        group.enter(pid)
        assert not group.wait_empty(0.01)
        threading.Timer(0.05, os.kill, (pid, signal.SIGKILL)).start()
        assert group.wait_empty(5)

    def test_a_group_in_use_is_not_removed_and_the_error_names_its_processes(self, group: Group, run: Run) -> None:
        group.create(NO_LIMITS)
        pid = run("sleep", "100")
        group.enter(pid)
        with pytest.raises(NodeError, match=f"cannot be removed.* used by pid {pid}"):
            group.remove()
        assert group.pids() == [pid]

    def test_groups_below_are_removed_with_the_group(self, group: Group, node: ControlGroups, run: Run) -> None:
        group.create(NO_LIMITS)
        pid = run("sleep", "100")
        for directory in group.directories:
            node.files.make(f"{directory}/a")
            node.files.make(f"{directory}/a/b")
            node.files.write(f"{directory}/a/b/cgroup.procs", str(pid))
        assert group.pids() == [pid]
        group.kill(5)
        group.remove()
        assert has_exited(pid)
        assert node.files.walk(group.directories[0]) == []

    def test_removing_the_last_group_removes_the_parent(self, node: ControlGroups, tmp_path: Path) -> None:
        tops = [os.path.dirname(place) for place in Group("x", node).directories]
        before = [node.files.walk(top) for top in tops]
        first, second = (Group(group_name(tmp_path, name), node) for name in ("web1", "web10"))
        first.create(NO_LIMITS)
        second.create(GroupLimits())
        first.remove()
        assert first.figures() is None
        assert second.figures() is not None
        second.remove()
        if all(places == [] for places in before):  # no other test has groups here
            assert [node.files.walk(top) for top in tops] == before

    def test_kill_thaw_and_remove_of_a_missing_group_are_fine(self, group: Group) -> None:
        assert not group.kill(1)
        group.thaw()
        group.remove()
        assert group.wait_empty(1)
        assert group.figures() is None
        assert not group.frozen()
        with pytest.raises(NodeError, match="cannot freeze"):
            group.freeze(1)

    def test_an_exited_process_may_enter(self, group: Group) -> None:
        group.create(NO_LIMITS)
        popen = subprocess.Popen(["true"])
        popen.wait()
        group.enter(popen.pid)
        assert group.pids() == []

    def test_a_wait_that_began_early_moves_no_thread_of_ours(self, group: Group, run: Run) -> None:
        group.create(NO_LIMITS)
        before = Path("/proc/self/cgroup").read_text(encoding="ascii")
        ended = [expect_entry(group) for _ in range(3)]
        pid = run("sleep", "60")
        group.enter(pid)
        for end in ended:
            end()
        assert "expect entry" not in {thread.name for thread in threading.enumerate()}
        assert group.holders() == [pid]
        assert Path("/proc/self/cgroup").read_text(encoding="ascii") == before

    def test_a_wait_for_a_missing_group_ends(self, group: Group) -> None:
        expect_entry(group)()
        assert group.holders() == []


needs_here = pytest.mark.skipif(
    not REAL.usable or bool(REAL.problems(GroupLimits(memory_bytes=1, cpus=1, processes=1))),
    reason="needs control groups with limits",
)


@needs_here
@pytest.mark.parametrize("node", the_nodes()[:2], indirect=True)
class TestLimits:
    """The kernel's own behaviour."""

    def test_no_more_processes_than_allowed(self, group: Group, run: Run) -> None:
        group.create(GroupLimits(processes=2))
        reader, writer = os.pipe()
        code = "import os,sys\nsys.stdin.read(1)\nos.fork()\ntry: os.fork()\nexcept OSError: sys.exit(7)\nimport time;time.sleep(9)"
        popen = subprocess.Popen([sys.executable, "-c", code], stdin=reader)
        os.close(reader)
        group.enter(popen.pid)
        os.write(writer, b"x")
        os.close(writer)
        assert popen.wait(60) == 7

    def test_processes_killed_by_the_oom_killer_are_counted(self, group: Group) -> None:
        group.create(GroupLimits(memory_bytes=32 * 2**20))
        popen = subprocess.Popen(
            [sys.executable, "-c", "import sys\nsys.stdin.read(1)\nb'x' * 200_000_000"], stdin=subprocess.PIPE
        )
        group.enter(popen.pid)
        popen.communicate(b"x", timeout=300)
        figures = group.figures()
        assert popen.returncode == -signal.SIGKILL
        assert figures is not None
        assert figures.oom_kills == 1

    def test_kill_ends_a_fork_bomb(self, group: Group) -> None:
        group.create(GroupLimits(processes=50))
        popen = subprocess.Popen(
            [sys.executable, "-c", "import sys\nsys.stdin.read(1)\n" + FORKS], stdin=subprocess.PIPE
        )
        group.enter(popen.pid)
        popen.communicate(b"x", timeout=300)
        assert any(group.pids() for _ in range(1000))  # a list can miss a process that is just being replaced
        assert group.kill(5)
        assert group.pids() == []
        assert not group.kill(1)

    def test_many_groups_can_be_made_and_removed_at_once(self, node: ControlGroups, tmp_path: Path) -> None:
        wrong: list[BaseException] = []

        def many(name: str) -> None:
            try:
                for _ in range(20):
                    group = Group(group_name(tmp_path, name), node)
                    group.create(GroupLimits(processes=5))
                    group.remove()
            except BaseException as error:  # noqa: BLE001 - shown below
                wrong.append(error)

        threads = [threading.Thread(target=many, args=(f"web{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class TestV2:
    def test_limits_are_written_where_the_kernel_wants_them(self) -> None:
        kernel = FakeKernel()
        group = Group("web1", kernel.node())
        group.create(GroupLimits(memory_bytes=64 * 2**20, cpus=1.5, processes=30))
        written = {name.removeprefix(f"{TOP}/hvcore/web1/"): value for name, value in kernel.wrote.items()}
        assert written["memory.max"] == "67108864"
        assert written["memory.swap.max"] == "0"
        assert written["cpu.max"] == "150000 100000"
        assert written["pids.max"] == "30"

    def test_a_small_share_of_a_cpu_is_not_below_the_kernels_minimum(self) -> None:
        kernel = FakeKernel()
        Group("web1", kernel.node()).create(GroupLimits(cpus=0.001))
        assert kernel.wrote[f"{TOP}/hvcore/web1/cpu.max"] == "1000 100000"

    def test_figures_have_units(self) -> None:
        group = Group("web1", FakeKernel().node())
        group.create(NO_LIMITS)
        figures = group.figures()
        assert figures is not None
        assert (figures.memory_bytes, figures.cpu_seconds, figures.processes) == (1048576, 2.5, 0)

    def test_a_process_that_survives_sigkill_is_named_by_pid(self, run: Run) -> None:
        class Hung(FakeKernel):
            def write(self, path: str, text: str) -> None:
                if not path.endswith("/cgroup.kill"):
                    super().write(path, text)

        group = Group("web1", Hung().node())
        group.create(NO_LIMITS)
        pid = run("sleep", "100")
        group.enter(pid)
        with pytest.raises(DeadlineError, match=f"web1: no end of pid {pid} after SIGKILL within 0.1 s"):
            group.kill(0.1)


MOUNTS = b"""\
22 1 0:21 / /proc rw - proc proc rw
30 24 0:26 / %(v2)s rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
31 24 0:27 / %(v1)s rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
"""


class TestWhatANodeHas:
    def test_both_versions_are_found_by_controller(self, tmp_path: Path) -> None:
        for name in ("v1", "v2"):
            (tmp_path / name).mkdir()
        (tmp_path / "v2/cgroup.controllers").write_text("memory pids\n")
        places = {name.encode(): os.fsencode(tmp_path / name) for name in ("v1", "v2")}
        found = control_groups(MOUNTS % places)
        assert found.unified == f"{tmp_path}/v2"
        assert found.place("memory") == f"{tmp_path}/v2"
        assert found.place("cpu") == f"{tmp_path}/v1"
        assert found.problems(GroupLimits(memory_bytes=1, cpus=1.0, processes=1)) == ()

    def test_a_node_without_controllers_gives_the_reason(self) -> None:
        found = control_groups(MOUNTS % {b"v1": b"/nonexistent/v1", b"v2": b"/nonexistent/v2"})
        assert not found.usable
        problems = found.problems(GroupLimits(cpus=1.0, processes=1))
        assert len(problems) == 2
        assert "no usable cpu controller (/nonexistent/v2 cannot be written to" in problems[0]
        with pytest.raises(NodeError, match="the limits cannot be set, no usable memory controller"):
            Group("web1", ControlGroups(by_controller={"freezer": "/x"})).create(GroupLimits(memory_bytes=1))

    def test_the_top_group_of_a_container_with_processes_cannot_enable_controllers(self) -> None:
        class Container(FakeKernel):
            def _text(self, path: str) -> str | None:
                return {f"{TOP}/cgroup.type": "domain\n", f"{TOP}/cgroup.procs": "1\n"}.get(path) or super()._text(path)

        problems = Container().node().problems(GroupLimits(memory_bytes=1))
        assert problems == (f"{TOP}: the memory controller cannot be enabled, because the top group has processes",)

    def test_names_differ_between_run_directories(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        assert group_name(tmp_path, "web1") != group_name(tmp_path / "b", "web1")
        assert group_name(tmp_path / "link", "web1") == group_name(tmp_path, "web1")
        assert group_name(tmp_path, "web1").startswith("web1.")


@pytest.fixture(autouse=True)
def _no_zombies() -> Iterator[None]:
    yield
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
