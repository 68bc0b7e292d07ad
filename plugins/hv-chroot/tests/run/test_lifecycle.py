"""Start, stop, list, info, cleanup on real loop-mounted file systems."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
import hvcore.plugin
from hv_chroot.run import run_script, stop
from hvcore.host.launching.launch import reap
from hvcore.host.mount_table import mounts_at_or_below
from hvcore.state.store import Store

pytestmark = pytest.mark.live


def read_image(image: Path, path: str) -> str:
    """A file of an image that is not mounted."""
    return subprocess.run(
        ["debugfs", "-R", f"cat {path}", str(image)], check=True, capture_output=True, text=True
    ).stdout


def inside(tmp_path: Path, path: str, name: str = "web1") -> str:
    return (tmp_path / "run/instances" / name / "root" / path).read_text()


def wait_for(path: Path) -> None:
    """Wait until the file exists: a process inside has no other way to reach this test."""
    give_up = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < give_up, f"{path} did not come"
        time.sleep(0.01)


def test_start_runs_the_script_and_stop_runs_it_again(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    image = images()
    outcome = node.driver("chroot").start(web1(image))
    assert (outcome.changed, outcome.state) == (True, hvcore.State.RUNNING)
    stopped = node.stop("web1")
    assert (stopped.changed, stopped.stopped_by) == (True, "script")
    assert leftovers() == []
    assert read_image(image, "/calls") == "start\nstop\n"


def test_host_application_that_ignores_sigchld_starts_and_stops(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    """Then the kernel keeps no exit status for us, and bubblewrap's status file has it. The daemons end before the stop."""
    script = """\
        #!/bin/sh
        [ $1 = stop ] || sleep 1000 &
    """
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert node.driver("chroot").start(web1(images(script))).state is hvcore.State.RUNNING
        info = node.info("web1")
        assert info.pid is not None
        os.kill(info.pid, signal.SIGKILL)
        assert node.stop("web1").stopped_by == "script"
        fails = web1(images("#!/bin/sh\nexit 3\n"))
        with pytest.raises(hvcore.LaunchError, match="exited with 3"):
            node.driver("chroot").start(fails)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert leftovers() == []


def test_start_again_is_fine_and_changes_nothing(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    instance = web1(images())
    node.driver("chroot").start(instance)
    assert not node.driver("chroot").start(instance).changed
    assert inside(tmp_path, "calls") == "start\n"
    node.stop("web1", force=True)


def test_stop_twice_is_fine(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    assert node.stop("web1").changed
    assert not node.stop("web1").changed


def test_the_script_that_the_parameter_names_is_used_for_both(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    tree = images.tree()
    (tree / "etc/rc with space").write_bytes((tree / "ganeti-chroot").read_bytes())
    (tree / "etc/rc with space").chmod(0o755)
    (tree / "ganeti-chroot").unlink()
    image = images.pack(tree)
    node.driver("chroot").start(web1(image, init_script="/etc/rc with space"))
    assert node.stop("web1").stopped_by == "script"
    assert read_image(image, "/calls") == "start\nstop\n"
    assert leftovers() == []


def test_force_stop_does_not_run_the_script(node: hvcore.Node, images: Any, web1: Build) -> None:
    image = images()
    node.driver("chroot").start(web1(image))
    assert node.stop("web1", force=True).stopped_by == "kill"
    assert read_image(image, "/calls") == "start\n"


def test_list_and_info_show_real_figures(node: hvcore.Node, images: Any, web1: Build) -> None:
    busy = """\
        #!/bin/sh
        [ $1 = start ] || exit 0
        i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done
        sleep 1000 &
        sleep 1000 &
    """
    node.driver("chroot").start(web1(images(busy)))
    (listed,) = node.instances()
    info = node.info("web1")
    assert (listed.name, listed.driver, listed.state) == ("web1", "chroot", hvcore.State.RUNNING)
    assert info.details["processes"] == 2
    assert info.resident_mib is not None
    assert 1 <= info.resident_mib <= 16
    assert info.cpu_seconds is not None
    assert info.cpu_seconds > 0.05  # that of the script, which has ended
    assert info.uptime_s is not None
    assert 0 < info.uptime_s < 60
    assert info.pid is not None
    node.stop("web1", force=True)


def test_host_name_and_environment_are_those_of_the_instance(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "hunter2")
    script = """\
        #!/bin/sh
        [ $1 = stop ] && exec kill -9 -1
        hostname > /hostname; env > /env; ls /proc > /procs; sleep 1000 &
    """
    node.driver("chroot").start(web1(images(script), hostname="inside.example"))
    assert inside(tmp_path, "hostname") == "inside.example\n"
    assert "SECRET" not in inside(tmp_path, "env")
    pids = [int(name) for name in inside(tmp_path, "procs").split() if name.isdecimal()]
    assert max(pids) < 50
    node.stop("web1")


def test_processes_that_the_script_leaves_are_confined_and_so_is_the_stop_script(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    script = """\
        #!/bin/sh
        cat /proc/self/status > /status-$1
        ls -l /proc/self/fd > /fds-$1
        mount -t tmpfs x /tmp 2> /mount-$1 && touch /mounted
        echo '|/evil' > /proc/sys/kernel/core_pattern && touch /escaped
        [ $1 = stop ] || sleep 1000 &
    """
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    image = images(script)
    node.driver("chroot").start(web1(image))
    node.stop("web1")
    assert Path("/proc/sys/kernel/core_pattern").read_bytes() == before
    allowed = 0xA00405FB
    for phase in ("start", "stop"):
        status = dict(
            line.split(":\t", 1) for line in read_image(image, f"/status-{phase}").splitlines() if ":\t" in line
        )
        for name in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"):
            assert int(status[name], 16) & ~allowed == 0, (phase, name)
        assert status["NoNewPrivs"] == "1"
        assert read_image(image, f"/mount-{phase}")
        # Its output, and for ls the directory: it has no descriptor of the node.
        fds = re.findall(r" (\d+) -> (\S+)", read_image(image, f"/fds-{phase}"))
        assert {fd for fd, _ in fds} <= {"0", "1", "2", "3", "10"}, fds
        assert not any("alive" in target for _, target in fds)
    assert read_image(image, "/escaped") == ""


def test_script_cannot_write_to_the_programs_that_run_it(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    # `#!/proc/self/exe` makes the kernel run the node's own interpreter, and names it inside.
    tree = images.tree()
    (tree / "evil").write_text("#!/proc/self/exe\n")
    (tree / "evil").chmod(0o755)
    node.driver("chroot").start(web1(images.pack(tree)))
    record = node.info("web1")
    assert record.pid is not None
    root = Path(f"/proc/{record.pid}/root")
    assert (root / "evil").exists()
    console = node.console("web1").argv
    end = console.index("--", console.index("terminal"))
    plain = [*console[: end + 1], "/bin/sh", "-c", "exec 3<>/proc/$$/exe"]
    plain[plain.index("terminal")] = "plain"
    assert subprocess.run(plain, check=False, capture_output=True).returncode != 0
    node.stop("web1", force=True)


def test_network_none_has_only_a_loopback(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    script = """\
        #!/bin/sh
        cat /proc/net/dev > /dev-$1; [ $1 = stop ] || sleep 1000 &
    """
    image = images(script)
    node.driver("chroot").start(web1(image, network="none"))
    node.stop("web1")
    for phase in ("start", "stop"):
        devices = [line.split(":")[0].strip() for line in read_image(image, f"/dev-{phase}").splitlines()[2:]]
        assert devices == ["lo"]


def test_read_only_disk_stays_as_it_is_and_is_shared(node: hvcore.Node, images: Any, web1: Build) -> None:
    script = """\
        #!/bin/sh
        touch /written; [ $1 = stop ] && exec kill -9 -1
        sleep 1000 &
    """
    image = images(script)
    before = image.read_bytes()
    driver = node.driver("chroot")
    driver.start(web1(image, read_only=True))
    driver.start(web1(image, name="web2", read_only=True))
    with pytest.raises(hvcore.DiskInUseError, match="instance web1"):
        driver.start(web1(image, name="web3"))
    node.stop("web1")
    assert node.info("web2").state is hvcore.State.RUNNING
    node.stop("web2")
    assert image.read_bytes() == before


def test_block_device_is_mounted_as_it_is(node: hvcore.Node, images: Any, web1: Build) -> None:
    image = images()
    device = subprocess.run(["losetup", "-f", "--show", str(image)], check=True, capture_output=True, text=True).stdout
    try:
        node.driver("chroot").start(web1(device.strip()))
        with pytest.raises(hvcore.DiskInUseError, match="instance web1"):
            node.driver("chroot").start(web1(image, name="web2"))
        assert node.stop("web1").stopped_by == "script"
    finally:
        subprocess.run(["losetup", "-d", device.strip()], check=True)


def test_without_a_process_left_it_is_shut_down_until_cleanup(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    driver = node.driver("chroot")
    driver.start(web1(images("#!/bin/sh\nexit 0\n")))
    info = node.info("web1")
    assert (info.state, info.reason) == (hvcore.State.SHUTDOWN, "no process left")
    assert len(mounts_at_or_below(str(tmp_path.resolve()))) == 2
    assert node.cleanup("web1").changed
    assert not node.cleanup("web1").changed


@pytest.mark.parametrize("network", ["host", "none"])
def test_stop_runs_the_stop_script_also_after_the_last_process_has_ended(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, network: str
) -> None:
    script = """\
        #!/bin/sh
        echo "$1 $(hostname)" >> /calls; [ $1 = start ] || { sleep 1000 & }
    """
    image = images(script)
    node.driver("chroot").start(web1(image, network=network, hostname="inside"))
    assert node.info("web1").state is hvcore.State.SHUTDOWN
    assert node.stop("web1").stopped_by == "script"
    assert leftovers() == []
    assert read_image(image, "/calls") == "start inside\nstop inside\n"


def allow_scripts(node: hvcore.Node, seconds: float) -> None:
    """From now on. In the instance file it would also be the limit of the start script, which a busy node exceeds."""
    store = Store(node.run_dir)
    record = store.load("web1")
    assert record is not None
    assert "script_deadline_s" in record.spec
    store.save(replace(record, spec={**record.spec, "script_deadline_s": seconds}))


@pytest.mark.parametrize(
    ("failure", "allowed_s"),
    [
        ("exit 3: stop exited with 3", None),
        ("sleep 1000: did not exit in time", 0.5),
        ("sleep 1000: did not exit in time", 0.0),  # as on a busy node: its time is over before its launch
    ],
)
def test_stop_script_that_fails_after_the_end_holds_nothing_up(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers, failure: str, allowed_s: float | None
) -> None:
    stop, message = failure.split(": ")
    image = images(f"#!/bin/sh\n[ $1 = start ] && exit 0\n{stop}\n")
    node.driver("chroot").start(web1(image))
    if allowed_s is not None:
        allow_scripts(node, allowed_s)
    outcome = node.stop("web1", deadline_s=20.0)
    assert outcome.stopped_by == "gone"
    assert any(message in note for note in outcome.notes)
    assert leftovers() == []


def test_its_end_has_the_time_of_the_stop(
    node: hvcore.Node, images: Any, web1: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the node were so busy that every fixed time is over at once."""
    monkeypatch.setattr(run_script, "_END_S", 0.0)
    monkeypatch.setattr(stop, "_AFTER_KILL_S", 0.0)
    image = images("#!/bin/sh\n[ $1 = start ] || { sleep 1000 & }\nexit 0\n")
    node.driver("chroot").start(web1(image))
    outcome = node.stop("web1", deadline_s=60)
    assert (outcome.stopped_by, outcome.notes) == ("script", ())
    assert node.instances() == []


def test_force_and_cleanup_run_no_script_after_the_end(node: hvcore.Node, images: Any, web1: Build) -> None:
    image = images("#!/bin/sh\necho $1 >> /calls\n")
    node.driver("chroot").start(web1(image))
    assert node.stop("web1", force=True).changed
    node.driver("chroot").start(web1(image))
    assert node.cleanup("web1").changed
    assert read_image(image, "/calls") == "start\nstart\n"


def test_a_separate_stop_script(node: hvcore.Node, images: Any, web1: Build) -> None:
    tree = images.tree()
    (tree / "rk").write_text("#!/bin/sh\necho own $1 >> /calls; kill $(cat /daemon)\n")
    (tree / "rk").chmod(0o755)
    image = images.pack(tree)
    node.driver("chroot").start(web1(image, stop_script="/rk"))
    assert node.stop("web1").stopped_by == "script"
    assert read_image(image, "/calls") == "start\nown stop\n"


def test_started_again_after_its_daemon_died(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    instance = web1(images())
    driver = node.driver("chroot")
    driver.start(instance)
    pid = node.info("web1").pid
    assert pid is not None
    init = os.pidfd_open(pid)
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    hvcore.plugin.wait_readable(init, 5)
    os.close(init)
    assert node.info("web1").state is hvcore.State.SHUTDOWN
    assert driver.start(instance).changed
    assert inside(tmp_path, "calls") == "start\nstart\n"
    node.stop("web1")


def test_cleanup_of_something_running_is_refused(node: hvcore.Node, images: Any, web1: Build) -> None:
    node.driver("chroot").start(web1(images()))
    with pytest.raises(hvcore.StateError, match="is running; use 'hv stop' first"):
        node.cleanup("web1")
    node.stop("web1", force=True)


def test_reboot_runs_stop_and_start(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    node.driver("chroot").start(web1(images()))
    assert node.reboot("web1").stopped_by == "script"
    assert inside(tmp_path, "calls") == "start\nstop\nstart\n"
    node.stop("web1", force=True)


@pytest.mark.parametrize("gone", [("rm", "/ganeti-chroot"), ("chmod", "0644", "/ganeti-chroot"), ("ln", "-sf", "/no", "/ganeti-chroot")])  # fmt: skip
@pytest.mark.parametrize("kind", ["directory", "image"])
def test_reboot_without_its_start_script_stops_nothing(
    node: hvcore.Node, images: Any, web1: Build, gone: tuple[str, ...], kind: str
) -> None:
    source = images.tree() if kind == "directory" else images()
    node.driver("chroot").start(web1(source))
    init = node.info("web1").pid
    subprocess.run(node.execution("web1", [f"/bin/{gone[0]}", *gone[1:]]).argv, check=True)
    with pytest.raises(hvcore.VerifyError, match=r"params\.init_script: .* in the root"):
        node.reboot("web1")
    assert (node.info("web1").state, node.info("web1").pid) == (hvcore.State.RUNNING, init)
    node.stop("web1", force=True)


def test_reboot_whose_start_script_fails_keeps_the_entry(node: hvcore.Node, images: Any, web1: Build) -> None:
    source = images.tree("#!/bin/sh\n[ $1 = stop ] || [ ! -e /bad ] || exit 7\nsleep 1000 &\n")
    node.driver("chroot").start(web1(source))
    (source / "bad").touch()
    with pytest.raises(hvcore.LaunchError, match="exited with 7"):
        node.reboot("web1")
    assert node.info("web1").state is hvcore.State.CRASHED
    (source / "bad").unlink()
    assert node.reboot("web1").state is hvcore.State.RUNNING
    node.stop("web1", force=True)


def test_name_that_does_not_exist(node: hvcore.Node) -> None:
    with pytest.raises(hvcore.NotFoundError):
        node.info("web9")
    assert not node.stop("web9").changed


def test_stop_leaves_web10_and_dotted_names_alone(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    names = ("web1", "web10", "web1.example")
    driver = node.driver("chroot")
    for name in names:
        driver.start(web1(images(name=f"{name}.img"), name=name))
    node.stop("web1")
    assert [info.name for info in node.instances()] == ["web1.example", "web10"]
    assert all(info.state is hvcore.State.RUNNING for info in node.instances())
    assert not any("/web1/" in text or text.endswith("/web1") for text in leftovers())
    node.stop("web10")
    node.stop("web1.example")


def test_many_starts_at_once_do_not_interfere(
    node: hvcore.Node, images: Any, web1: Build, leftovers: Leftovers
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    instances = [web1(images(name=f"{index}.img"), name=f"web{index}") for index in range(8)]
    driver = node.driver("chroot")

    def cycle(instance: hvcore.Instance) -> list[str | None]:
        ends = []
        for force in (False, True, True):
            assert driver.start(instance).changed
            ends.append(node.stop(instance.name, force=force).stopped_by)
        return ends

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(cycle, instances)) == [["script", "kill", "kill"]] * 8
    assert leftovers() == []


def test_a_mount_made_later_below_its_root_is_gone_after_stop(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    node.driver("chroot").start(web1(images()))
    root = tmp_path / "run/instances/web1/root"
    subprocess.run(["mount", "-t", "tmpfs", "x", str(root / "tmp")], check=True)
    (root / "tmp/a b\\c").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "x", str(root / "tmp/a b\\c")], check=True)
    pid = node.info("web1").pid
    command = [
        "nsenter",
        f"--mount=/proc/{pid}/ns/mnt",
        f"--root=/proc/{pid}/root",
        "/bin/mount",
        "-t",
        "tmpfs",
        "x",
        "/run",
    ]
    subprocess.run(command, check=True)
    assert node.stop("web1").stopped_by == "script"


def test_foreign_shell_in_the_directory_is_neither_counted_nor_killed(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    node.driver("chroot").start(web1(images()))
    root = tmp_path / "run/instances/web1/root"
    shell = subprocess.Popen(["sleep", "1000"], cwd=root)
    try:
        assert node.info("web1").details["processes"] == 1
        with pytest.raises(hvcore.LeftoverError, match=rf"root: cannot be unmounted.*pid {shell.pid} \(sleep\)"):
            node.stop("web1")
        assert shell.poll() is None
        assert node.info("web1").state is not hvcore.State.RUNNING
    finally:
        shell.kill()
        shell.wait()
    assert node.stop("web1").changed


# A namespace has copies of all mounts, also of those of other tests that run now.
_KEEPS_OURS = """
while read -r _ _ _ _ point _; do
  case $point in "$1"/*) ;; */instances/*) umount -l "$point" ;; esac
done < /proc/self/mountinfo
exec sleep 1000
"""


def _keeper(tmp_path: Path) -> subprocess.Popen[bytes]:
    """A process with a copy of the mounts below that directory."""
    propagation = "unchanged" if hvcore.plugin.with_own_root() else "private"
    other = subprocess.Popen(
        ["unshare", "--mount", "--propagation", propagation, "sh", "-c", _KEEPS_OURS, "sh", str(tmp_path)]
    )
    host = os.readlink("/proc/self/ns/mnt")
    while os.readlink(f"/proc/{other.pid}/ns/mnt") == host or "sleep" not in _comm(other.pid):
        time.sleep(0.01)
    return other


@pytest.mark.parametrize("readers", [1, 2])
def test_a_disk_that_is_only_read_can_be_started_again_after_a_stop(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path, readers: int
) -> None:
    """A copy of the mount is let go meanwhile. Another reader keeps the disk in use, and is not waited for."""
    instance = web1(images(), overlay="memory")
    node.driver("chroot").start(instance)
    if readers == 2:
        node.driver("chroot").start(replace(instance, name="web2"))
    other = _keeper(tmp_path)
    goes = threading.Timer(0.5, other.kill)
    if readers == 1:
        goes.start()
    try:
        node.stop("web1", force=True)
        if readers == 1:
            assert other.poll() is not None
        assert node.driver("chroot").start(instance).changed
    finally:
        goes.cancel()
        other.kill()
        other.wait()
        for name in ("web1", "web2"):
            node.stop(name, force=True)


def test_copy_of_the_mount_in_another_namespace_is_named_until_it_is_gone(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    node.driver("chroot").start(web1(images()))
    other = _keeper(tmp_path)
    try:
        for _ in range(2):
            with pytest.raises(
                hvcore.LeftoverError, match=rf"still in use after its unmount, mounted for pid {other.pid} "
            ):
                node.stop("web1", force=True)
    finally:
        other.kill()
        other.wait()
    assert node.stop("web1").changed


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text()


def _own_children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_start_and_stop_from_a_long_lived_program_leave_no_child(node: hvcore.Node, images: Any, web1: Build) -> None:
    instance, before = web1(images()), _own_children()
    for _ in range(5):
        node.driver("chroot").start(instance)
        node.stop("web1", force=True)
    give_up = time.monotonic() + 60  # the last of them may be exiting
    while children := _own_children() - before:
        assert time.monotonic() < give_up, children
        reap()
        time.sleep(0.01)


@pytest.mark.parametrize(
    "name", ["with space", "new\nline", "back\\slash", "com,ma=ro", "#hash", "-dash", "quo'te\"s", "ümlaut"]
)
def test_awkward_paths(node: hvcore.Node, images: Any, web1: Build, name: str) -> None:
    image = images(name=f"{name}/{name}.img")
    node.driver("chroot").start(web1(image))
    assert node.stop("web1").stopped_by == "script"


def test_awkward_run_directory(images: Any, web1: Build, tmp_path: Path, node: hvcore.Node) -> None:
    other = hvcore.Node(tmp_path / "run with\nline, and \\040")
    other.driver("chroot").start(web1(images()))
    assert other.stop("web1").stopped_by == "script"


class TestStopLadder:
    def test_script_goes_on_when_its_daemon_has_ended(self, node: hvcore.Node, images: Any, web1: Build) -> None:
        script = """\
            #!/bin/sh
            case $1 in
              start) sleep 1000 & echo $! > /daemon ;;
              stop) kill $(cat /daemon); sleep 0.3; touch /finished ;;
            esac
        """
        image = images(script)
        node.driver("chroot").start(web1(image))
        assert node.stop("web1").stopped_by == "script"
        listing = subprocess.run(
            ["debugfs", "-R", "ls /", str(image)], check=True, capture_output=True, text=True
        ).stdout
        assert "finished" in listing

    def test_script_that_signals_everything_survives_its_own_sigterm(
        self, node: hvcore.Node, images: Any, web1: Build
    ) -> None:
        script = """\
            #!/bin/sh
            [ $1 = start ] && { sleep 1000 & exit 0; }
            trap "" TERM; kill -15 -1; sleep 0.2; echo done > /finished
        """
        image = images(script)
        node.driver("chroot").start(web1(image))
        assert node.stop("web1").stopped_by == "script"
        assert read_image(image, "/finished") == "done\n"

    def test_failing_stop_script_is_reported_and_the_stop_continues(
        self, node: hvcore.Node, images: Any, web1: Build
    ) -> None:
        script = """\
            #!/bin/sh
            [ $1 = start ] || { echo no way; exit 3; }
            sleep 1000 &
        """
        node.driver("chroot").start(web1(images(script)))
        outcome = node.stop("web1")
        assert (outcome.stopped_by, outcome.notes) == (
            "term",
            ("/ganeti-chroot stop exited with 3, its last output was 'no way'",),
        )

    def test_process_that_ignores_sigterm_is_killed(self, node: hvcore.Node, images: Any, web1: Build) -> None:
        script = """\
            #!/bin/sh
            [ $1 = start ] || exit 0
            sh -c 'trap "" TERM; while :; do sleep 1; done' > /dev/null 2>&1 &
        """
        node.driver("chroot").start(web1(images(script)))
        assert node.stop("web1").stopped_by == "kill"

    def test_hanging_stop_script_ends_with_its_deadline(self, node: hvcore.Node, images: Any, web1: Build) -> None:
        script = """\
            #!/bin/sh
            [ $1 = start ] || sleep 1000
            sleep 1000 &
        """
        node.driver("chroot").start(web1(images(script)))
        allow_scripts(node, 0.3)
        begun = time.monotonic()
        outcome = node.stop("web1", deadline_s=120)
        assert time.monotonic() - begun < 60
        assert outcome.stopped_by in {"term", "kill"}  # a busy node may need more than the 3 s after SIGTERM
        assert outcome.notes == ("/ganeti-chroot stop did not exit in time",)

    def test_stop_script_that_was_removed(self, node: hvcore.Node, images: Any, web1: Build) -> None:
        script = """\
            #!/bin/sh
            rm /ganeti-chroot; sleep 1000 &
        """
        node.driver("chroot").start(web1(images(script)))
        outcome = node.stop("web1")
        assert outcome.stopped_by == "term"
        assert any("cannot be executed inside, got No such file" in note for note in outcome.notes)

    def test_stop_script_that_floods(self, node: hvcore.Node, images: Any, web1: Build) -> None:
        script = """\
            #!/bin/sh
            [ $1 = start ] || { yes flood | head -c 3000000; exec kill -9 -1; }
            sleep 1000 &
        """
        node.driver("chroot").start(web1(images(script)))
        assert node.stop("web1").stopped_by == "script"

    def test_daemons_of_a_fork_bomb_kind_are_all_ended(self, node: hvcore.Node, images: Any, web1: Build) -> None:
        script = """\
            #!/bin/sh
            [ $1 = start ] || exit 0
            i=0; while [ $i -lt 30 ]; do (sleep 1000 & sleep 1001 &) ; i=$((i+1)); done
        """
        node.driver("chroot").start(web1(images(script)))
        assert node.info("web1").details["processes"] == 60
        assert node.stop("web1", force=True).stopped_by == "kill"
