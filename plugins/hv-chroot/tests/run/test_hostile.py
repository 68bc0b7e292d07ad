"""Hostile root file systems: their processes take, fill and reach for everything, and the node stays unchanged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
import hvcore.plugin
from hvcore.host.cgroups.hierarchy import control_groups

pytestmark = pytest.mark.live

NODE = control_groups()
LIMITED = NODE.usable and not NODE.problems(hvcore.plugin.GroupLimits(processes=1))


@pytest.mark.skipif(not LIMITED or os.geteuid() != 0, reason="needs root, and a pids controller to write to")
def test_fork_bomb_is_held_listed_and_ended(node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers) -> None:
    script = """\
        #!/bin/sh
        [ $1 = stop ] && exit 0
        (yes 'sleep 0.1 & (sleep 0.1 & sleep 0.2) &' | sh -i) > /dev/null 2>&1 &
    """  # only an interactive shell goes on when it cannot fork
    node.driver("chroot").start(web1(images(script), process_limit=64))
    info = node.info("web1")
    assert info.state is hvcore.State.RUNNING
    assert 1 <= info.details["processes"] <= 66  # 64, and two more once hvcore's two have ended
    begun = time.monotonic()
    assert node.stop("web1").stopped_by in ("term", "kill")
    assert time.monotonic() - begun < 120
    assert leftovers() == []


def test_script_that_fills_its_disk_is_stopped_and_leaves_it_sound(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    script = """\
        #!/bin/sh
        [ $1 = stop ] && { echo stopped > /full-too; exec kill -9 -1; }
        cat /dev/zero > /tmp/full
        echo half > /tmp/more || echo no more
        sleep 1000 &
    """
    image = images(script)
    node.driver("chroot").start(web1(image))
    assert "No space left on device" in Path(node.log("web1").path).read_text()
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []
    assert subprocess.run(["e2fsck", "-fn", str(image)], check=False, capture_output=True).returncode == 0


def test_root_inside_can_neither_write_to_nor_take_what_its_init_holds(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    # The worst case: without a user namespace it is root on the node, except for the capabilities.
    script = """\
        #!/bin/sh
        [ $1 = stop ] && exec kill -9 -1
        sleep 1000 &
        for fd in /proc/1/fd/*; do
          chmod 0666 $fd; (echo x > $fd) && echo wrote $(readlink $fd); ls $fd/..
        done > /found 2>&1
        exit 0
    """
    tree = images.tree(script)
    node.driver("chroot").start(web1(tree, user_namespace="off"))
    wrote = [line for line in (tree / "found").read_text().splitlines() if line.startswith("wrote ")]
    assert "Read-only file system" in (tree / "found").read_text()
    assert "passwd" not in (tree / "found").read_text()
    assert sorted(Path(line).name for line in wrote) == ["log", "log", "null"]
    life = tmp_path / "run/instances/web1/alive"
    assert (life.stat().st_size, life.stat().st_mode & 0o777) == (0, 0o600)
    node.stop("web1")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", ["start", "stop"])
def test_caller_killed_forty_times_at_any_moment(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, verb: str
) -> None:
    """At random moments, not at a system call as in test_crash.py: also during the work of its child processes."""
    script = """\
        #!/bin/sh
        case $1 in
          start) sleep 1000 & echo $! > /daemon; sleep 0.02 ;;
          stop) sleep 0.02; kill $(cat /daemon) ;;
        esac
    """
    instance, moments = web1(images(script), network="none"), random.Random(1)
    driver = node.driver("chroot")
    for _ in range(40):
        if verb == "stop":
            driver.start(instance)
        pid = os.fork()
        if pid == 0:
            try:
                driver.start(instance) if verb == "start" else node.stop("web1")
            finally:
                os._exit(0)
        time.sleep(moments.uniform(0.0, 0.12))  # the test tries random moments
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert not [result for result in node.recover() if result.what == "failed"]
        node.stop("web1", force=True)
        assert leftovers() == []
