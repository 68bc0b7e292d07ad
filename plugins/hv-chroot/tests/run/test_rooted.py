"""Without namespaces, as in Ganeti: only the root directory belongs to the instance."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
from hvcore.host.mount_table import mounts_at_or_below
from hvcore.plugin import rooted

pytestmark = pytest.mark.live


PLAIN = {"isolation": "none"}
GOOD = """\
    #!/bin/sh
    : > /dev/null  # the shell needs it, and this root has none
    echo "$1 $HOME $LANG" >> /calls
    case $1 in
      start) sleep 1000 & sleep 1001 & echo $! > /daemon ;;
      stop) kill -9 $(cat /daemon) ;;
    esac
"""


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    made: list[subprocess.Popen[bytes]] = []

    def stand(where: str) -> subprocess.Popen[bytes]:
        made.append(subprocess.Popen(["sleep", "1002"], cwd=tmp_path / "run/instances/web1" / where))
        return made[-1]

    yield stand
    for process in made:
        process.kill()
        process.wait()


UNMARKED = """\
    #!/bin/sh
    : > /dev/null  # the shell needs it, and this root has none
    [ $1 = stop ] || env -i /bin/sleep 1003 &
"""


@pytest.mark.parametrize("wiped", ["instance", "instances", "run"])
def test_a_daemon_without_its_mark_is_seen_and_ended_after_the_run_directory_was_wiped(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, wiped: str
) -> None:
    """It has cleared its environment, and its root is mounted nowhere on the node any more."""
    instance = web1(images.tree(UNMARKED), **PLAIN)
    node.driver("chroot").start(instance)
    directory = node.run_dir / "instances/web1"
    (pid,) = [one.pid for one in rooted(directory)]
    give_up = time.monotonic() + 60
    while b"HVCORE" in Path(f"/proc/{pid}/environ").read_bytes():  # until env has become sleep
        assert time.monotonic() < give_up
        time.sleep(0.01)
    for mount in reversed(mounts_at_or_below(str(directory))):
        subprocess.run(["umount", "-l", mount.point], check=True)
    shutil.rmtree({"instance": directory, "instances": directory.parent, "run": node.run_dir}[wiped])
    assert [(one.name, one.state) for one in node.instances()] == [("web1", hvcore.State.UNKNOWN)]
    if wiped == "run":  # else the reservation of its root is left, and says that there is an instance
        assert f"still runs as pid {pid}" in (node.info("web1").reason or "")
    with pytest.raises(hvcore.HvError):
        node.stop("web1")
    with pytest.raises(hvcore.HvError):
        node.driver("chroot").start(instance)
    assert node.stop("web1", force=True).changed
    assert rooted(directory) == []
    assert node.instances() == []
    assert node.driver("chroot").start(instance).changed
    node.stop("web1", force=True)
    assert leftovers() == []


def test_it_runs_among_the_nodes_processes_and_is_known_by_its_root(
    node: hvcore.Node,
    images: Any,
    web1: Build,
    leftovers: Leftovers,
    stranger: Callable[[str], subprocess.Popen[bytes]],
) -> None:
    tree = images.tree(GOOD)
    node.driver("chroot").start(web1(tree, **PLAIN, environment=["LANG=C"]))
    info = node.info("web1")
    assert (info.state, info.details["processes"]) == (hvcore.State.RUNNING, 2)
    assert info.uptime_s is not None
    assert info.resident_mib is not None
    outside = stranger("root")
    assert node.info("web1").details["processes"] == 2
    with pytest.raises(hvcore.LeftoverError, match=rf"cannot be unmounted.*pid {outside.pid} \(sleep\)"):
        node.stop("web1")
    assert outside.poll() is None
    outside.kill()
    outside.wait()
    assert node.stop("web1").changed
    assert leftovers() == []
    assert (tree / "calls").read_text() == "start /root C\nstop /root C\n"


def test_processes_and_mounts_of_the_script_are_removed(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    script = """\
        #!/bin/sh
        [ $1 = start ] || exit 0
        : > /dev/null
        mount -t proc proc /proc; mount -t tmpfs x /tmp; mkdir /tmp/a; mount -t tmpfs y /tmp/a
        trap "" TERM; sleep 1000 > /dev/null 2>&1 &
        trap - TERM
        (sleep 1001 & sleep 1002 &)
    """
    node.driver("chroot").start(web1(images(script), **PLAIN))
    assert node.stop("web1").stopped_by == "kill"
    assert leftovers() == []


def test_failing_script_leaves_nothing(node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers) -> None:
    script = "#!/bin/sh\n: > /dev/null\nsleep 1000 &\necho no database; exit 3\n"
    with pytest.raises(hvcore.LaunchError, match=r"exited with 3.*no database"):
        node.driver("chroot").start(web1(images(script), **PLAIN))
    assert leftovers() == []


def test_hanging_script_leaves_nothing(node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers) -> None:
    script = "#!/bin/sh\ntrap '' TERM\nsleep 1000\n"
    with pytest.raises(hvcore.DeadlineError, match="no end of /ganeti-chroot start"):
        node.driver("chroot").start(web1(images(script), **PLAIN, script_deadline=0.3))
    assert leftovers() == []


def test_the_neighbours_with_longer_names_are_left_alone(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    for name in ("web1", "web10"):
        node.driver("chroot").start(web1(images(GOOD, name=f"{name}.img"), name=name, **PLAIN))
    assert node.stop("web1", force=True).stopped_by == "kill"
    assert node.info("web10").details["processes"] == 2
    node.stop("web10")
    assert leftovers() == []


def test_stop_script_runs_after_the_processes_have_ended_on_their_own(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    tree = images.tree(GOOD)
    node.driver("chroot").start(web1(tree, **PLAIN))
    root = str(images.folder / "run/instances/web1/root")  # another test may have a web1 as well
    for process in [pid for pid in filter(str.isdecimal, os.listdir("/proc")) if _root_of(pid).endswith(root)]:
        os.kill(int(process), signal.SIGKILL)
    give_up = time.monotonic() + 60
    while node.info("web1").state is not hvcore.State.SHUTDOWN:
        assert time.monotonic() < give_up
    assert node.stop("web1").changed
    assert (tree / "calls").read_text() == "start /root \nstop /root \n"
    assert leftovers() == []


def _root_of(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/root")
    except OSError:
        return ""


def test_console_is_a_shell_with_that_root(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images(GOOD), **PLAIN))
    argv = node.console("web1").argv
    said = subprocess.run(argv, input=b"ls /; exit 7\n", capture_output=True, check=False)
    assert (said.returncode, b"ganeti-chroot" in said.stdout) == (7, True)
    node.stop("web1")


def test_dev_null_works_without_namespaces_and_what_the_script_leaves_stays(
    node: hvcore.Node, images: Any, web1: Build
) -> None:
    tree = images.tree("#!/bin/sh\n[ $1 = stop ] || sleep 1000 > /dev/null &\n")
    os.mknod(tree / "dev/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    assert node.driver("chroot").start(web1(tree, **PLAIN)).state is hvcore.State.RUNNING
    assert node.info("web1").details["processes"] == 1
    node.stop("web1", force=True)


@pytest.mark.parametrize("kind", ["disk", "directory", "overlay"])
@pytest.mark.parametrize(
    ("params", "flags"),
    [
        ({}, []),
        ({"allow_suid": False}, ["nosuid"]),
        ({"allow_suid": False, "allow_devices": False}, ["nosuid", "nodev"]),
        ({"allow_suid": True, "allow_devices": False}, ["nodev"]),
    ],
)
def test_programs_that_gain_privileges_only_when_allowed(
    node: hvcore.Node, images: Any, web1: Build, params: dict[str, Any], flags: list[str], kind: str
) -> None:
    tree = images.tree(GOOD)
    source = images.pack(tree) if kind == "disk" else tree
    overlay = {"overlay": "memory"} if kind == "overlay" else {}
    node.driver("chroot").start(web1(source, **PLAIN, **params, **overlay))
    mounted = Path("/proc/self/mountinfo").read_text().splitlines()
    (line,) = [line for line in mounted if f"{images.folder}/run/instances/web1/root " in line]
    assert re.findall("nosuid|nodev", line.split(" - ")[0]) == flags
    node.stop("web1", force=True)
