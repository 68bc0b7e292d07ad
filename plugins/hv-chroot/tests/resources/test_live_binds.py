"""Binds that come and go while the instance runs: seen by the processes that run, and by those that come later."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
from hvcore.host.mount_table import mounts_at_or_below, parse_mountinfo
from hvcore.host.processes.search import rooted
from hvcore.model.record import Phase
from hvcore.state.store import Store

pytestmark = pytest.mark.live

# Runs without namespaces too, where /dev is the image's. Its shell does what comes through a pipe in its root.
SERVICE = """\
    #!/bin/sh
    [ -c /dev/null ] || : > /dev/null
    [ $1 = stop ] && { cat /data/page > /at-stop; kill $(cat /daemon); exit 0; }
    sleep 1000 & echo $! > /daemon
"""
EACH = pytest.mark.parametrize(
    "how",
    [
        pytest.param({"user_namespace": "on"}, id="users"),
        pytest.param({"user_namespace": "off"}, id="namespaces"),
        pytest.param({"isolation": "none"}, id="plain"),
        pytest.param({"overlay": "memory"}, id="overlay"),
    ],
)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/page").write_text("a page of the node\n")
    return tmp_path / "pages"


@pytest.fixture
def up(node: hvcore.Node, images: Any, web1: Build) -> Iterator[Callable[..., hvcore.Node]]:
    def start(*, paused: bool = False, **params: Any) -> hvcore.Node:
        node.driver("chroot").start(web1(images(SERVICE), **params), paused=paused)
        return node

    yield start
    node.stop("web1", force=True)


def bound(source: Path, target: str = "/data", *, writable: bool = False) -> hvcore.ListedDevice:
    return hvcore.ListedDevice(param="binds", item=f"{source}:{target}{':rw' if writable else ''}")


def inside(node: hvcore.Node, script: str) -> tuple[int, str]:
    argv = node.execution("web1", ["/bin/sh", "-c", script]).argv
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    return done.returncode, done.stdout


def process_of(node: hvcore.Node) -> int:
    """A process that the start script left."""
    pid = node.info("web1").pid
    return next(iter(rooted(node.run_dir / "instances/web1/root"))).pid if pid is None else pid


def seen_by_a_process(node: hvcore.Node) -> list[str]:
    table = parse_mountinfo(Path(f"/proc/{process_of(node)}/mountinfo").read_bytes())
    return [mount.root for mount in table if mount.point.endswith("/data")]


@EACH
def test_a_bind_comes_and_goes(
    up: Callable[..., hvcore.Node], pages: Path, leftovers: Leftovers, how: dict[str, str]
) -> None:
    node = up(**how)
    before = Store(node.run_dir).load("web1")
    outcome = node.attach("web1", bound(pages))
    assert (outcome.changed, outcome.device) == (True, "/data")
    assert inside(node, "cat /data/page") == (0, "a page of the node\n")
    assert inside(node, "touch /data/new")[0] == 1
    assert len(seen_by_a_process(node)) == 1
    assert node.info("web1").devices == {"/data": "params.binds[0]"}
    assert not node.attach("web1", bound(pages)).changed
    assert node.detach("web1", "/data").changed
    assert (inside(node, "cat /data/page")[0], seen_by_a_process(node)) == (1, [])
    after = Store(node.run_dir).load("web1")
    assert before is not None
    assert after is not None
    assert (after.spec, after.ledger, after.devices) == (before.spec, before.ledger, {})
    assert not [mount for mount in mounts_at_or_below(str(node.run_dir)) if mount.point.endswith("/data")]
    node.attach("web1", bound(pages, writable=True))
    assert inside(node, "echo more > /data/new; ls -ln /data/new")[1].split()[2] == "0"
    assert (pages / "new").stat().st_uid == 0
    assert not os.access(node.run_dir / "instances/web1/root/data/new", os.W_OK)
    node.stop("web1")
    assert leftovers() == []
    assert (pages / "page").exists()


@EACH
def test_a_bind_stays_for_the_stop_script_and_a_reboot(
    up: Callable[..., hvcore.Node], pages: Path, leftovers: Leftovers, how: dict[str, str]
) -> None:
    node = up(**how)
    node.attach("web1", bound(pages))
    os.kill(process_of(node), 0)
    node.reboot("web1")
    assert inside(node, "cat /data/page") == (0, "a page of the node\n")
    if how.get("overlay") is None:
        assert inside(node, "cat /at-stop") == (0, "a page of the node\n")
    if how.get("user_namespace") == "on":  # the kernel keeps what an instance with its own users had at its start
        with pytest.raises(hvcore.OperationError, match="keeps such a mount; it stays until the instance stops"):
            node.detach("web1", "/data")
        assert node.info("web1").devices == {"/data": "params.binds[0]"}
    elif how.get("overlay") is None:
        assert node.detach("web1", "/data").changed
        assert seen_by_a_process(node) == []
    assert inside(node, "true")[0] == 0
    node.stop("web1")
    assert leftovers() == []


def test_a_renamed_directory_above_or_below_hides_no_bind(up: Callable[..., hvcore.Node], pages: Path) -> None:
    node = up(user_namespace="on")
    node.attach("web1", bound(pages, "/data/place"))
    inside(node, "busybox mv /data /elsewhere || { mkdir /x; /bin/busybox mv /data /elsewhere; }")
    assert inside(node, "cat /elsewhere/place/page")[0] == 0
    pages.rename(pages.parent / "renamed")
    assert node.detach("web1", "/data/place").changed
    assert inside(node, "cat /elsewhere/place/page")[0] == 1


def test_a_bind_in_use_is_refused_and_stays(up: Callable[..., hvcore.Node], pages: Path) -> None:
    node = up(user_namespace="on")
    node.attach("web1", bound(pages))
    argv = node.execution("web1", ["/bin/sh", "-c", "cd /data; echo there; cat"]).argv
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"there\n"
        with pytest.raises(hvcore.OperationError, match=r"is in use inside: .*; end that use, then 'hv detach' again"):
            node.detach("web1", "/data")
        assert inside(node, "cat /data/page")[0] == 0
        assert node.info("web1").devices == {"/data": "params.binds[0]"}
        assert Store(node.run_dir).load("web1").phase is Phase.RUNNING  # type: ignore[union-attr]
        assert user.stdin is not None
        user.stdin.close()
        user.wait()
    assert node.detach("web1", "/data").changed


def test_two_binds_of_one_directory_are_known_apart(up: Callable[..., hvcore.Node], pages: Path) -> None:
    node = up(binds=[f"{pages}:/first"])
    node.attach("web1", bound(pages, "/data", writable=True))
    node.detach("web1", "/data")
    assert inside(node, "cat /first/page")[0] == 0
    assert inside(node, "cat /data/page")[0] == 1
    assert node.info("web1").devices == {"/first": "params.binds[0]"}


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("/no/such", "/data", "path: does not exist, got '/no/such'"),
        ("PAGES", "/proc/x", "would cover the root, /dev or /proc"),
        ("PAGES", "/shown", "has two binds to one target|has a value twice"),
        ("PAGES", "/", "would cover"),
        ("PAGES", "relative", "has the wrong form|absolute"),
        ("PAGES", "/shown/..", "has '..' in it"),
        ("PAGES", "/sub", "at: would cover the bind at '/sub/deep'"),
        ("PAGES", "/daemon", "cannot bind .* to '/daemon', got Not a directory"),
    ],
)
def test_what_cannot_be_bound_is_refused_and_changes_nothing(
    up: Callable[..., hvcore.Node], pages: Path, source: str, target: str, message: str
) -> None:
    node = up(binds=[f"{pages}:/shown", f"{pages}:/sub/deep"])
    before = Store(node.run_dir).load("web1")
    with pytest.raises(hvcore.HvError, match=message):
        node.attach("web1", bound(pages if source == "PAGES" else Path(source), target, writable=target == "/shown"))
    after = Store(node.run_dir).load("web1")
    assert before is not None
    assert after is not None
    assert replace(after, bindings={}) == replace(before, bindings={})
    assert len([mount for mount in mounts_at_or_below(str(node.run_dir)) if "/root/" in mount.point]) == 2


def test_a_disk_or_a_nic_is_no_device_of_a_running_chroot(up: Callable[..., hvcore.Node], pages: Path) -> None:
    node = up()
    with pytest.raises(hvcore.HvError, match="second disk"):
        node.attach("web1", hvcore.Disk(path=str(pages / "page")))
    with pytest.raises(hvcore.HvError, match=r"usb_devices"):
        node.attach("web1", hvcore.ListedDevice(param="usb_devices", item="mouse"))
    with pytest.raises(hvcore.InputError, match="has no device"):
        node.detach("web1", "/data")


def test_an_instance_that_has_not_run_gets_its_binds_when_it_does(up: Callable[..., hvcore.Node], pages: Path) -> None:
    node = up(paused=True)
    node.attach("web1", bound(pages))
    node.attach("web1", bound(pages, "/other"))
    node.detach("web1", "/other")
    node.resume("web1")
    assert inside(node, "cat /data/page") == (0, "a page of the node\n")
    assert inside(node, "cat /other/page")[0] == 1


def test_a_paused_instance_gets_a_bind(up: Callable[..., hvcore.Node], pages: Path) -> None:
    node = up()
    node.pause("web1")
    node.attach("web1", bound(pages))
    node.resume("web1")
    assert inside(node, "cat /data/page")[0] == 0


def test_binds_of_a_profile_of_the_node_are_kept(
    node: hvcore.Node, images: Any, web1: Build, pages: Path, tmp_path: Path
) -> None:
    (config := tmp_path / "etc").mkdir()
    (config / "node.toml").write_text(f'[params.chroot]\nbinds = ["{pages}:/of-the-node"]\n')
    made = hvcore.Node(tmp_path / "run", config_dir=config)
    made.driver("chroot").start(web1(images(SERVICE)))
    made.attach("web1", bound(pages))
    made.reboot("web1")
    assert inside(made, "cat /of-the-node/page /data/page") == (0, "a page of the node\n" * 2)
    made.stop("web1", force=True)


def test_a_source_that_is_removed_can_be_detached(up: Callable[..., hvcore.Node], pages: Path) -> None:
    node = up()
    node.attach("web1", bound(pages))
    shutil.rmtree(pages)
    assert node.detach("web1", "/data").changed
    assert seen_by_a_process(node) == []


def test_binds_that_only_the_file_has_are_changes_that_take_effect_now(
    up: Callable[..., hvcore.Node], node: hvcore.Node, web1: Build, pages: Path
) -> None:
    up(binds=[f"{pages}:/first"], user_namespace="off")
    started = node.instance("web1")
    wanted = replace(started, params={**started.params, "binds": [f"{pages}:/data:rw"]})
    assert [(one.field, str(one.effect)) for one in node.changes("web1", wanted)] == [("params.binds", "now")]
    done = node.apply("web1", wanted)
    assert [one.device for one in done] == ["/first", "/data"]
    assert node.changes("web1", wanted) == ()
    assert inside(node, "cat /data/page; cat /first/page")[1] == "a page of the node\n"
