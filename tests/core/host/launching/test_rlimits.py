"""Resource limits of launched processes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from hvcore import NodeError
from hvcore.host.launching.rlimits import LIMITS, unmet_limits, with_limits

ANY = resource.RLIM_INFINITY
ENOUGH = {limit.number: (limit.wanted, limit.wanted) for limit in LIMITS}


def test_sufficient_limits_need_no_prefix() -> None:
    assert with_limits(ENOUGH.__getitem__) == ()
    more = {**ENOUGH, resource.RLIMIT_NOFILE: (1_000_000, ANY), resource.RLIMIT_MEMLOCK: (ANY, ANY)}
    assert with_limits(more.__getitem__) == ()


@pytest.mark.parametrize(
    ("number", "own", "privileged", "option"),
    [
        (resource.RLIMIT_NOFILE, (20, 20), True, "--nofile=16384:16384"),
        (resource.RLIMIT_NOFILE, (20, 524_288), False, "--nofile=16384:524288"),
        (resource.RLIMIT_NOFILE, (20, 4096), False, "--nofile=4096:4096"),
        (resource.RLIMIT_CORE, (ANY, ANY), False, "--core=0:0"),
        (resource.RLIMIT_CPU, (10, ANY), False, "--cpu=unlimited:unlimited"),
        (resource.RLIMIT_FSIZE, (1, 1), True, "--fsize=unlimited:unlimited"),
    ],
)
def test_an_insufficient_limit_is_set(number: int, own: tuple[int, int], *, privileged: bool, option: str) -> None:
    assert with_limits({**ENOUGH, number: own}.__getitem__, privileged=privileged) == ("prlimit", option, "--")


def test_a_process_that_waits_at_no_gate_cannot_allow_itself_core_dumps() -> None:
    soft = {**ENOUGH, resource.RLIMIT_CORE: (0, ANY)}.__getitem__
    assert with_limits(soft) == ()
    assert with_limits(soft, final=True) == ("prlimit", "--core=0:0", "--")
    assert with_limits(ENOUGH.__getitem__, final=True) == ()


def test_a_limit_that_a_user_cannot_raise_is_an_error() -> None:
    with pytest.raises(NodeError, match="limit of open files: must be at least 1024, got 20; raise it"):
        with_limits({**ENOUGH, resource.RLIMIT_NOFILE: (20, 20)}.__getitem__, privileged=False)
    with pytest.raises(NodeError, match="limit of cpu time: must be at least unlimited, got 10"):
        with_limits({**ENOUGH, resource.RLIMIT_CPU: (10, 10)}.__getitem__, privileged=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_process_launched_by_a_limited_caller_is_not_limited(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import hvcore.plugin as hv\n"
        "from hvcore.host.launching.launch import launch, life_lock\n"
        "here = Path(sys.argv[1])\n"
        "shown = ('/bin/sh', '-c', 'echo $(ulimit -n) $(ulimit -c) $(ulimit -Hc) $(ulimit -t)')\n"
        "for level in ('off', 'strict'):\n"
        "    sandbox = hv.Sandbox(who=hv.AsUser(1880000000)) if level == 'strict' else None\n"
        "    with life_lock(here / 'alive') as life:\n"
        "        command = hv.Command(argv=shown, sandbox=sandbox)\n"
        "        child = launch(command, life_fd=life, status=here / 'status', log=here / 'log')\n"
        "    assert child.wait(60).code == 0; child.close()\n"
    )
    low = f'ulimit -Sc unlimited; ulimit -Sn 20; ulimit -St 30; exec {sys.executable} -c "$0" "$1"'
    subprocess.run(["/bin/sh", "-c", low, program, str(tmp_path)], check=True)
    assert (tmp_path / "log").read_text().splitlines() == ["16384 0 0 unlimited"] * 2


def test_unmet_limits_are_named() -> None:
    with subprocess.Popen(["sleep", "100"]) as popen:
        try:
            resource.prlimit(popen.pid, resource.RLIMIT_NOFILE, (20, 20))
            assert "limit of open files is 20" in unmet_limits(popen.pid)
        finally:
            popen.kill()
    assert unmet_limits(popen.pid) != []
