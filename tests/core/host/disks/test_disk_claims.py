"""A disk has one user on the node, even with two run directories."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hvcore import DiskInUseError
from hvcore.host.disks.disk_claims import DiskClaims
from hvcore.host.lock import is_held

HELD = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[[str, str], DiskClaims]]:
    """``node("run", "web1")``: the claims of that instance in that run directory."""
    made: list[DiskClaims] = []

    def make(run_dir: str, owner: str, *, arriving: bool = False) -> DiskClaims:
        made.append(DiskClaims(tmp_path / run_dir, owner, arriving=arriving))
        return made[-1]

    yield make
    for claims in made:
        claims.close()


@pytest.fixture
def disk(tmp_path: Path) -> str:
    (tmp_path / "a.img").write_bytes(bytes(4096))
    return str(tmp_path / "a.img")


@pytest.mark.parametrize(
    ("first_reads", "second_reads", "refused"),
    [(False, False, True), (False, True, True), (True, False, True), (True, True, False)],
)
def test_readers_share_and_a_writer_excludes_all_others(
    node: Callable[..., DiskClaims], disk: str, *, first_reads: bool, second_reads: bool, refused: bool
) -> None:
    first, second = node("one", "web1"), node("two", "web2")
    first.take(disk, read_only=first_reads)
    if refused:
        with pytest.raises(DiskInUseError, match="already in use by an instance of another run directory on this node"):
            second.take(disk, read_only=second_reads)
        assert second.fds == ()
        first.close()
    second.take(disk, read_only=second_reads)


@pytest.mark.parametrize("stays", ["source", "target"])
def test_an_arriving_instance_locks_its_disk_beside_the_other_and_a_third_never_gets_it(
    node: Callable[..., DiskClaims], disk: str, stays: str
) -> None:
    source, target = node("one", "web1"), node("two", "web1", arriving=True)
    source.take(disk, read_only=False)
    target.refuse_used(disk, read_only=False)
    target.take(disk, read_only=False)
    with pytest.raises(DiskInUseError):
        node("two", "web2", arriving=True).take(disk, read_only=False)
    (target if stays == "source" else source).close()
    for run_dir, name in (("one", "web2"), ("two", "web2"), ("three", "web1")):
        for read_only in (False, True):
            with pytest.raises(DiskInUseError):
                node(run_dir, name).take(disk, read_only=read_only)


def test_a_disk_of_another_instance_of_the_same_run_directory_is_refused_to_an_arriving_one(
    node: Callable[..., DiskClaims], disk: str
) -> None:
    node("two", "web2").take(disk, read_only=False)
    with pytest.raises(DiskInUseError, match="in use by instance web2"):
        node("two", "web1", arriving=True).take(disk, read_only=False)


def test_an_arriving_reader_is_one_of_the_readers(node: Callable[..., DiskClaims], disk: str) -> None:
    source, target, other = node("one", "web1"), node("two", "web1", arriving=True), node("three", "web3")
    source.take(disk, read_only=True)
    target.take(disk, read_only=True)
    source.close()
    other.take(disk, read_only=True)
    with pytest.raises(DiskInUseError):
        node("three", "web4").take(disk, read_only=False)


def test_a_disk_without_write_access_can_be_claimed(node: Callable[..., DiskClaims], disk: str) -> None:
    os.chmod(disk, 0o400)
    node("one", "web1").take(disk, read_only=False)
    with pytest.raises(DiskInUseError):
        node("two", "web1").take(disk, read_only=False)


def test_a_process_that_inherited_the_lock_holds_it_until_it_exits_and_is_named(
    node: Callable[..., DiskClaims], disk: str, tmp_path: Path
) -> None:
    first, second = node("one", "web1"), node("two", "web2")
    first.take(disk, read_only=False)
    launched = {**os.environ, "HVCORE_INSTANCE": str(tmp_path / "one/instances/web1")}
    with subprocess.Popen(
        [sys.executable, "-c", HELD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=first.fds,
        env=launched,
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        first.close()
        message = rf"in use by instance web1 of run directory {tmp_path}/one, pid {popen.pid};"
        with pytest.raises(DiskInUseError, match=message):
            second.take(disk, read_only=False)
        popen.kill()
    second.take(disk, read_only=False)  # without any cleanup in the other run directory


def test_the_lock_ends_with_a_killed_operation(node: Callable[..., DiskClaims], disk: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hvcore.host.disks.disk_claims import DiskClaims\n"
        "claims = DiskClaims(Path(sys.argv[1]), 'web1'); claims.take(sys.argv[2], read_only=False)\n" + HELD
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "one"), disk], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        with pytest.raises(DiskInUseError):
            node("two", "web2").take(disk, read_only=True)
        popen.kill()
    node("two", "web2").take(disk, read_only=True)


def test_a_child_that_the_host_application_forks_does_not_hold_the_lock(
    node: Callable[..., DiskClaims], disk: str, in_child: Callable[..., int]
) -> None:
    first = node("one", "web1")
    first.take(disk, read_only=False)
    reading, writing = os.pipe()
    ready, signal_ready = os.pipe()

    def live_on() -> None:
        os.close(writing)
        os.write(signal_ready, b"x")
        os.read(reading, 1)

    in_child(live_on, wait=False)
    os.read(ready, 1)
    first.close()
    node("two", "web2").take(disk, read_only=False)
    for fd in (reading, writing, ready, signal_ready):
        os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_loop_device_and_its_file_are_one_disk(
    node: Callable[..., DiskClaims], disk: str, tool: Callable[[str], str]
) -> None:
    made = subprocess.run([tool("losetup"), "--find", "--show", disk], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip("no loop device here")
    device = made.stdout.strip()
    try:
        first = node("one", "web1")
        first.take(device, read_only=False)
        with pytest.raises(DiskInUseError):
            node("two", "web2").take(device, read_only=False)
        first.close()
        node("two", "web2").take(device, read_only=False)
    finally:
        subprocess.run([tool("losetup"), "--detach", device], check=False)


def test_a_network_disk_is_reserved_and_not_locked(node: Callable[..., DiskClaims]) -> None:
    claims = node("one", "web1")
    claims.take("nbd://192.0.2.1/export", read_only=False)
    assert claims.fds == ()
    with pytest.raises(DiskInUseError, match="already in use by instance web1;"):
        node("one", "web2").take("nbd://192.0.2.1/export", read_only=False)


def test_a_directory_conflicts_with_one_inside_it_and_not_with_a_neighbour(tmp_path: Path) -> None:
    for name in ("web1/x", "web10", "deep/" + "d/" * 15):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "way").symlink_to("web1/x")

    def take(owner: str, name: str, *, read_only: bool = False) -> None:
        claims = DiskClaims(tmp_path / "run", owner)
        claims.take(str(tmp_path / name), read_only=read_only)
        claims.close()

    take("first", "web1")
    take("neighbour", "web10")
    for name in ("web1/x", "web1", "way", ".", "web1/../web1/x"):
        with pytest.raises(DiskInUseError, match=r"first|neighbour"):
            take("other", name)
        with pytest.raises(DiskInUseError, match=r"first|neighbour"):
            take("reader", name, read_only=True)
    take("n" * 200, "deep/" + "d/" * 15, read_only=True)
    with pytest.raises(DiskInUseError, match="nnn"):
        take("other", "deep/" + "d/" * 15)


@pytest.mark.live
@pytest.mark.parametrize("same_run_dir", [True, False])
@pytest.mark.parametrize("order", ["file first", "loop first"])
def test_a_loop_device_over_a_loop_device_claims_the_file(
    node: Callable[..., DiskClaims], disk: str, loop: Callable[[Path], str], order: str, *, same_run_dir: bool
) -> None:
    """Also when the loop devices are attached while the file is in use."""
    first, second = node("one", "web1"), node("one" if same_run_dir else "two", "web2")
    if order == "file first":
        first.take(disk, read_only=False)
        with pytest.raises(DiskInUseError):
            second.take(loop(Path(loop(Path(disk)))), read_only=False)
    else:
        below = loop(Path(disk))
        above = loop(Path(below))
        first.take(above, read_only=False)
        for path in (disk, below, above):
            with pytest.raises(DiskInUseError):
                second.take(path, read_only=False)


def test_another_program_that_locks_a_disk_is_named(node: Callable[..., DiskClaims], disk: str) -> None:
    lock = "fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0x68760000, 1, 0))"
    program = f"import fcntl, struct; file = open({disk!r}); {lock}; {HELD}"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        try:
            assert popen.stdout is not None
            popen.stdout.readline()
            with pytest.raises(DiskInUseError, match=rf"a program that has locked it, pid {popen.pid} \(python"):
                node("one", "web1").take(disk, read_only=False)
        finally:
            popen.kill()


def test_a_disk_that_does_not_open_keeps_no_other_disk_waiting(
    node: Callable[..., DiskClaims], disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file server that is down: meanwhile, another instance claims its own disk."""
    (tmp_path / "b.img").write_bytes(bytes(4096))
    hangs, goes_on = threading.Event(), threading.Event()
    opened = os.open

    def slow(path: str, *arguments: Any, **named: Any) -> int:
        if path == disk:
            hangs.set()
            assert goes_on.wait(60)
        return opened(path, *arguments, **named)

    monkeypatch.setattr(os, "open", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(node("run", "web1").take, disk, read_only=False)
        assert hangs.wait(60)
        assert not is_held(tmp_path / "run/reservations/.disks")
        node("run", "web2").take(str(tmp_path / "b.img"), read_only=False)
        goes_on.set()
        first.result(60)
    with pytest.raises(DiskInUseError, match="in use by instance web1"):
        node("run", "web3").take(disk, read_only=False)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_claim_that_is_refused_or_repeated_leaves_no_descriptor(
    node: Callable[..., DiskClaims], disk: str, *, read_only: bool
) -> None:
    first = node("run", "web1")
    first.take(disk, read_only=False)
    before = os.listdir("/proc/self/fd")
    for run_dir in ("run", "other"):
        with pytest.raises(DiskInUseError):
            node(run_dir, "web2").take(disk, read_only=read_only)
    node("run", "web1").take(disk, read_only=False)
    assert len(os.listdir("/proc/self/fd")) == len(before)
