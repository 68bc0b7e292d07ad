"""A reboot secures what its start needs before its stop, and keeps the definition if the start fails all the same."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import hvcore
from hvcore import BusyError, HvError, Node, NodeError, State
from hvcore.state.store import Store

FAKE = hvcore.Instance(name="web1", driver="fake", params={"motd": "kept"})


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Node]:
    """A node whose run directory is on a file system of 512 KiB and 200 inodes."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    place = tmp_path / "small"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"x", os.fsencode(place), b"tmpfs", 0, b"size=512k,nr_inodes=200,mode=0700") == 0
    yield Node(place / "run")
    assert libc.umount2(os.fsencode(place), 2) == 0


def fill(node: Node, leave: int = 0) -> Path:
    """Take all room of its file system but ``leave`` bytes."""
    path = node.run_dir.parent / "fill"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(path, path.stat().st_size - leave)
    return path


def take_inodes(node: Node) -> None:
    with suppress(OSError):
        for number in range(1000):
            (node.run_dir.parent / f"i{number}").touch()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("leave", [0, 8192, 32768])
def test_without_room_nothing_is_stopped(small: Node, leave: int, *, force: bool) -> None:
    small.driver("fake").start(FAKE)
    full = fill(small, leave)
    with pytest.raises(NodeError, match=r"cannot be rebooted, .* has no room for its start, got No space left"):
        small.reboot("web1", force=force)
    assert [(one.name, one.state) for one in small.instances()] == [("web1", State.RUNNING)]
    full.unlink()
    assert small.reboot("web1").state is State.RUNNING
    assert small.stop("web1").changed
    assert small.instances() == []


def test_without_inodes_nothing_is_stopped(small: Node) -> None:
    small.driver("fake").start(FAKE)
    take_inodes(small)
    with pytest.raises(HvError):
        small.reboot("web1")
    assert small.info("web1").state is State.RUNNING


def failing(node: Node) -> None:
    """The next start of web1 fails, at its last step: its saved spec says so."""
    record = node.run_dir / "instances/web1/record.json"
    import zlib

    body = record.read_bytes().split(b"\n")[0].replace(b'"fail_at":null,"ign', b'"fail_at":"start","ign')
    record.write_bytes(body + f"\ncrc32:{zlib.crc32(body):08x}\n".encode())


def test_a_start_that_fails_leaves_an_entry_that_can_be_started(run_dir: Path) -> None:
    node = Node(run_dir)
    node.driver("fake").start(FAKE)
    failing(node)
    with pytest.raises(HvError) as caught:
        node.reboot("web1")
    assert "hv reboot web1 starts it" in caught.value.__notes__[-1]
    (info,) = node.instances()
    assert (info.name, info.driver, info.state) == ("web1", "fake", State.CRASHED)
    assert "hv reboot tries again" in (info.reason or "")
    assert node.recover() == []
    with pytest.raises(HvError):  # it fails again, and is kept again
        node.reboot("web1")
    assert node.info("web1").state is State.CRASHED
    assert node.driver("fake").start(FAKE).state is State.RUNNING
    assert node.stop("web1").changed
    assert node.instances() == []
    assert not list((run_dir / "rebooting").iterdir())


@pytest.mark.parametrize("end", ["stop", "kill", "cleanup"])
def test_what_is_kept_can_be_given_up(run_dir: Path, end: str) -> None:
    node = Node(run_dir)
    node.driver("fake").start(FAKE)
    failing(node)
    with pytest.raises(HvError):
        node.reboot("web1")
    if end == "cleanup":
        node.cleanup("web1")
    else:
        node.stop("web1", force=end == "kill")
    assert node.instances() == []
    assert not node.stop("web1").changed


KILLED = """
import os, sys, hvcore
from hvcore.state.kept_record import KeptRecord
where = sys.argv[2]
setattr(KeptRecord, where, lambda *_: os.kill(os.getpid(), 9))
hvcore.Node(sys.argv[1]).reboot("web1")
"""


@pytest.mark.heavy
@pytest.mark.parametrize(("where", "state"), [("free_room", State.CRASHED), ("drop", State.RUNNING)])
def test_a_reboot_that_was_killed_is_brought_to_an_end(run_dir: Path, where: str, state: State) -> None:
    node = Node(run_dir)
    node.driver("fake").start(FAKE)
    done = subprocess.run([sys.executable, "-c", KILLED, str(run_dir), where], check=False)
    assert done.returncode == -9
    node = Node(run_dir)
    assert node.info("web1").state is state
    if state is State.CRASHED:
        (result,) = node.recover()
        assert (result.name, result.what) == ("web1", "finished")
    assert node.reboot("web1").state is State.RUNNING
    assert node.stop("web1").changed
    assert node.instances() == []


# A stop needs nothing new.


@pytest.mark.parametrize("verb", ["stop", "force", "recover"])
def test_without_inodes_it_is_ended_all_the_same(small: Node, verb: str) -> None:
    small.driver("fake").start(FAKE)
    fill(small)
    take_inodes(small)
    if verb == "recover":
        assert small.recover() == []
        small.stop("web1")
    else:
        assert small.stop("web1", force=verb == "force").changed
    assert small.instances() == []
    assert not (small.run_dir / "instances" / "web1").exists()


def test_two_exclude_each_other_with_and_without_room_for_a_lock_file(small: Node) -> None:
    small.driver("fake").start(FAKE)
    take_inodes(small)
    store = Store(small.run_dir)
    with store.lock("web1", "stop"):
        assert not (small.run_dir / "locks" / "web1").exists()
        for path in small.run_dir.parent.glob("i*"):
            path.unlink()
        with pytest.raises(BusyError, match="web1: busy"), store.lock("web1", "stop", wait_s=0.05):
            pass
    with store.lock("web1", "stop"):
        assert (small.run_dir / "locks" / "web1").exists()


@pytest.mark.heavy
@pytest.mark.parametrize("descriptors", [24, 32])
def test_with_few_descriptors_it_is_ended_all_the_same(run_dir: Path, descriptors: int) -> None:
    Node(run_dir).driver("fake").start(FAKE)
    program = "import resource, sys, hvcore; n = int(sys.argv[2]); resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)); hvcore.Node(sys.argv[1]).stop('web1')"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program, str(run_dir), str(descriptors)], check=False)
    assert done.returncode == 0
    assert Node(run_dir).instances() == []
