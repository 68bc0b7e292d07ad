"""A running instance whose state in the run directory was removed, wholly or in part, is still found and ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from other_pids import in_other_pids

import hvcore
from hvcore import Node, State, StateError
from hvcore.host.launching.launch_notes import forget_launch, note_launch
from hvcore.host.lock import is_held
from hvcore.host.processes.launched import instance_mark
from hvcore.operations.inspection.leftovers import leftovers

HV = (sys.executable, "-c", "from hvcore.cli import main; main()")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has notes of launches")


@pytest.fixture
def guest(run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that was launched for web1 of a run directory that has no state of it."""
    directory = run_dir / "instances" / "web1"
    note_launch(directory, "now")
    process = subprocess.Popen(["sleep", "1000"], env=dict([instance_mark(directory)]))
    yield process
    process.kill()
    process.wait()
    forget_launch(directory, "now")


def nothing(run_dir: Path) -> None:
    shutil.rmtree(run_dir, ignore_errors=True)


def empty(run_dir: Path) -> None:
    nothing(run_dir)
    run_dir.mkdir(0o700)


def no_instance(run_dir: Path) -> None:
    nothing(run_dir)
    (run_dir / "instances").mkdir(0o700, parents=True)
    run_dir.chmod(0o700)


WIPED = pytest.mark.parametrize("wipe", [nothing, empty, no_instance])


@WIPED
def test_it_is_listed_shown_and_reported(
    guest: subprocess.Popen[bytes], run_dir: Path, wipe: Callable[[Path], None]
) -> None:
    wipe(run_dir)
    node = Node(run_dir)
    assert [(one.name, one.state) for one in node.instances()] == [("web1", State.UNKNOWN)]
    assert f"still runs as pid {guest.pid}" in (node.info("web1").reason or "")
    (result,) = node.recover()
    assert (result.name, result.what) == ("web1", "failed")
    assert "hv stop --force ends it" in result.detail
    assert any(one.todo == "hv stop --force web1" for one in leftovers(node._context))


@WIPED
def test_nothing_says_that_it_does_not_run(
    guest: subprocess.Popen[bytes], run_dir: Path, wipe: Callable[[Path], None]
) -> None:
    wipe(run_dir)
    node = Node(run_dir)
    calls: tuple[Callable[[], object], ...] = (
        lambda: node.stop("web1"),
        lambda: node.cleanup("web1"),
        lambda: node.reboot("web1"),
        lambda: node.driver("fake").start(hvcore.Instance(name="web1", driver="fake")),
    )
    for call in calls:
        with pytest.raises(StateError) as caught:
            call()
        assert f"still runs as pid {guest.pid}" in "\n".join(caught.value.__notes__)
    assert guest.poll() is None


@WIPED
def test_force_ends_it_and_then_it_is_gone(
    guest: subprocess.Popen[bytes], run_dir: Path, wipe: Callable[[Path], None]
) -> None:
    wipe(run_dir)
    node = Node(run_dir)
    outcome = node.stop("web1", force=True)
    assert (outcome.changed, outcome.stopped_by) == (True, "kill")
    assert f"ended pid {guest.pid}" in outcome.notes
    assert guest.wait(60) == -9
    assert node.instances() == []
    assert not node.stop("web1", force=True).changed


def test_one_of_another_run_directory_is_not_taken_for_it(guest: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert Node(tmp_path / "other").instances() == []
    assert not Node(tmp_path / "other").stop("web1", force=True).changed
    assert guest.poll() is None


def test_a_run_directory_behind_a_link_of_ours_is_the_same_one(run_dir: Path, tmp_path: Path) -> None:
    Node(run_dir).driver("fake").start(hvcore.Instance(name="web1", driver="fake"))
    (tmp_path / "link").symlink_to(run_dir)
    node = Node(tmp_path / "link")
    assert node.run_dir == run_dir
    assert node.stop("web1").changed
    assert Node(run_dir).instances() == []


def test_a_run_directory_behind_a_link_of_another_user_is_refused(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run_dir)
    os.lchown(tmp_path / "link", 65534, 65534)
    with pytest.raises(hvcore.NodeError, match="is a link that uid 65534 made"):
        Node(tmp_path / "link")


@pytest.mark.heavy
def test_a_process_that_only_another_pid_namespace_sees_is_not_taken_for_gone(run_dir: Path) -> None:
    node = Node(run_dir)
    directory = run_dir / "instances" / "web1"
    directory.mkdir(0o700, parents=True)
    run_dir.chmod(0o700)
    (directory / "alive").touch()
    holder = subprocess.Popen(["flock", str(directory / "alive"), "sleep", "1000"], start_new_session=True)
    try:
        give = f"import hvcore; hvcore.Node({str(run_dir)!r}).stop('web1', force=True)"
        while not is_held(directory / "alive"):
            assert holder.poll() is None
        done = in_other_pids(give)
        assert "in a PID namespace that cannot be seen from here" in done.stderr
        assert holder.poll() is None
        assert [one.name for one in node.instances()] == ["web1"]
    finally:
        os.killpg(holder.pid, 9)
        holder.wait()
    node.stop("web1", force=True)


@pytest.mark.heavy
@WIPED
def test_the_command_line_ends_it_too(
    guest: subprocess.Popen[bytes], run_dir: Path, wipe: Callable[[Path], None]
) -> None:
    wipe(run_dir)
    refused = subprocess.run([*HV, "--run-dir", run_dir, "pause", "web1"], capture_output=True, text=True, check=False)
    assert f"still runs as pid {guest.pid}" in refused.stderr
    subprocess.run([*HV, "--run-dir", run_dir, "stop", "web1", "--force"], check=True, capture_output=True)
    assert guest.wait(30) == -9
