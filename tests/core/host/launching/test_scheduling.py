"""A launched program gets its CPUs, priorities, OOM score and umask from hvcore, whatever the caller has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hvcore.host.cgroups.group import Group
from hvcore.host.cgroups.hierarchy import control_groups, group_name
from hvcore.host.launching.launch import launch, life_lock, run_tool
from hvcore.host.launching.scheduling import as_planned, inherited
from hvcore.model.limits import GroupLimits
from hvcore.plugin import AsUser, Command, Ended, Sandbox, View

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can raise a priority again")
TWO = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
SCRIPT: Final = """
umask; nice; ionice; chrt -p $$ | head -1; taskset -cp $$; cat /proc/self/oom_score_adj
"""


def odd() -> None:
    """What ``nice``, ``taskset``, ``choom``, ``chrt`` and ``ionice`` do, and a careless shell."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, 0, 7)
    Path("/proc/self/oom_score_adj").write_text("300")
    os.umask(0o077)


def pinned() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(3))


def idle_io() -> None:
    assert run_io("ionice", "-c", "3", "-p", str(os.getpid())) == 0


def run_io(*argv: str) -> int:
    return os.spawnvp(os.P_WAIT, argv[0], argv)


CALLERS: Final = [odd, pytest.param(pinned, marks=TWO), real_time, idle_io]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    groups = control_groups()
    if not groups.usable:
        pytest.skip("this node does not allow control groups")
    group = Group(group_name(tmp_path, "i"), groups)
    group.create(GroupLimits())
    yield group
    group.kill(5)
    group.remove()


def seen(folder: Path, sandbox: Sandbox | None, group: Group | None) -> None:
    with life_lock(folder / "alive") as life_fd:
        command = Command(argv=("sh", "-c", SCRIPT), sandbox=sandbox, group=group)
        child = launch(command, life_fd=life_fd, status=folder / "status", log=folder / "log")
    assert child.wait(20) == Ended(code=0)
    child.close()


def lines(folder: Path) -> list[str]:
    """The log, without the pid in it."""
    return [line.partition("'s current ")[2] or line for line in (folder / "log").read_text().splitlines()]


@pytest.mark.heavy
@ROOT
@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    "sandbox", [None, Sandbox(who=AsUser(1_880_000_000), view=View(proc=True))], ids=["off", "strict"]
)
def test_a_program_is_scheduled_as_planned_whatever_its_caller_is(
    tmp_path: Path, in_child: Callable[..., int], caller: Callable[[], None], sandbox: Sandbox | None
) -> None:
    usual, strange = tmp_path / "usual", tmp_path / "strange"
    for folder in (usual, strange):
        folder.mkdir()
    assert in_child(seen, usual, sandbox, None) == 0

    def strangely() -> None:
        caller()
        seen(strange, sandbox, None)

    assert in_child(strangely) == 0
    assert lines(strange) == lines(usual)
    umask, nice, *_, oom = lines(strange)
    assert (umask, nice, oom) == ("0022", "0", "0")


@ROOT
def test_a_program_in_a_group_is_scheduled_as_planned(
    tmp_path: Path, in_child: Callable[..., int], group: Group
) -> None:
    def strangely() -> None:
        odd()
        seen(tmp_path, None, group)

    assert in_child(strangely) == 0
    umask, nice, *_, oom = lines(tmp_path)
    assert (umask, nice, oom) == ("0022", "0", "0")


@ROOT
@pytest.mark.parametrize(("caller", "named"), [(odd, ("scheduler", "nice", "OOM score")), (idle_io, ("io class",))])
def test_what_is_inherited_is_named_and_set(
    caller: Callable[[], None], named: tuple[str, ...], in_child: Callable[..., int]
) -> None:
    def check() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
        caller()
        assert inherited() == named
        as_planned(os.getpid())
        assert inherited() == inherited(os.getpid()) == ()

    assert in_child(check) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_what_only_root_can_raise_stays_without_root(in_child: Callable[..., int]) -> None:
    def check() -> None:
        os.setpriority(os.PRIO_PROCESS, 0, 7)
        os.setuid(65534)
        as_planned(os.getpid())
        assert inherited() == ("nice",)

    assert in_child(check) == 0


def test_a_tool_has_the_usual_umask(tmp_path: Path, in_child: Callable[..., int]) -> None:
    def check() -> None:
        os.umask(0o777)
        ended = run_tool(("sh", "-c", "umask"), life=tmp_path / "alive", status=tmp_path / "status", deadline_s=20)
        assert ended == (Ended(code=0), "0022")

    (tmp_path / "alive").touch()
    assert in_child(check) == 0
