"""What a disk is, whatever its path, and whether the host itself uses it."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hvcore.host.disks import host_use, identify_disk, overlap

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Tool = Callable[[str], str]


def image(path: Path, mib: int = 4) -> Path:
    with path.open("wb") as file:
        file.truncate(mib * 1024 * 1024)
    return path


def test_a_file_is_the_same_through_links(tmp_path: Path) -> None:
    real = image(tmp_path / "a,b='\n.img")
    (tmp_path / "soft").symlink_to(real)
    os.link(real, tmp_path / "hard")
    first = identify_disk(str(real))
    assert identify_disk(str(tmp_path / "soft")) == first
    assert identify_disk(str(tmp_path / "hard")) == first
    assert identify_disk(str(image(tmp_path / "other"))).key != first.key
    assert (first.size_bytes, first.block_device) == (4 * 1024 * 1024, False)
    assert host_use(str(real), first) is None


def test_what_is_no_disk_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null"):
        with pytest.raises(OSError, match="neither a regular file nor a block device"):
            identify_disk(str(path))
    with pytest.raises(FileNotFoundError):
        identify_disk(str(tmp_path / "none"))


def test_the_key_is_a_file_name(tmp_path: Path) -> None:
    assert "/" not in identify_disk(str(image(tmp_path / "a"))).key


@pytest.fixture
def loop(tool: Tool) -> Iterator[Callable[[Path], str]]:
    """``loop(image)``: a loop device over it."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    losetup, made = tool("losetup"), []

    def attach(path: Path) -> str:
        run = subprocess.run([losetup, "--find", "--show", path], check=False, capture_output=True, text=True)
        if run.returncode != 0:
            pytest.skip(f"no loop device here: {run.stderr.strip()}")
        made.append(run.stdout.strip())
        return made[-1]

    yield attach
    for device in made:
        subprocess.run([losetup, "--detach", device], check=False, capture_output=True)


@pytest.mark.live
def test_a_loop_device_is_the_file_behind_it_by_whatever_node(tmp_path: Path, loop: Callable[[Path], str]) -> None:
    path = image(tmp_path / "a.img")
    key = identify_disk(str(path)).key
    first, second = loop(path), loop(path)
    os.mknod(tmp_path / "node", 0o600 | 0o060000, os.stat(first).st_rdev)
    (tmp_path / "link").symlink_to(first)
    for name in (first, second, str(tmp_path / "node"), str(tmp_path / "link")):
        found = identify_disk(name)
        assert (found.key, found.block_device, found.size_bytes) == (key, True, 4 * 1024 * 1024)


@pytest.mark.live
def test_a_file_that_is_attached_to_a_loop_device_is_used_by_the_host(
    tmp_path: Path, loop: Callable[[Path], str]
) -> None:
    path = image(tmp_path / "a.img")
    device = loop(path)
    assert host_use(str(path), identify_disk(str(path))) == f"the host, attached as {device}"
    assert host_use(device, identify_disk(device)) is None  # that one was asked for itself


@pytest.mark.live
def test_a_mounted_disk_is_used_by_the_host_through_every_other_way_to_it(
    tmp_path: Path, loop: Callable[[Path], str], mount: Callable[..., None], tool: Tool
) -> None:
    path, target = image(tmp_path / "a.img"), tmp_path / "mnt"
    target.mkdir()
    subprocess.run([tool("mkfs.ext4"), "-q", path], check=True)
    first, second = loop(path), loop(path)
    mount(first, target, "ext4")
    os.mknod(tmp_path / "node", 0o600 | 0o060000, os.stat(first).st_rdev)
    for name in (first, str(tmp_path / "node")):
        assert host_use(name, identify_disk(name)) == f"the host, mounted at {target}"
    assert host_use(second, identify_disk(second)) == f"the host, attached as {first} and mounted at {target}"
    assert str(host_use(str(path), identify_disk(str(path)))).startswith("the host, attached as /dev/loop")


@pytest.mark.live
def test_a_device_that_somebody_claimed_is_used(tmp_path: Path, loop: Callable[[Path], str], tool: Tool) -> None:
    """Swap, md, lvm and QEMU with O_EXCL: the kernel lets only one claim a device."""
    path = image(tmp_path / "a.img", 16)
    device = loop(path)
    claim = os.open(device, os.O_RDONLY | os.O_EXCL)
    assert "another program" in str(host_use(device, identify_disk(device)))
    os.close(claim)
    assert host_use(device, identify_disk(device)) is None
    subprocess.run([tool("mkswap"), device], check=True, capture_output=True)
    if subprocess.run([tool("swapon"), device], check=False, capture_output=True).returncode != 0:
        pytest.skip("no swap here")
    try:
        assert "swap" in str(host_use(device, identify_disk(device)))
    finally:
        subprocess.run([tool("swapoff"), device], check=True)


@pytest.mark.live
@ROOT
def test_a_disk_with_a_mounted_partition_is_used(tmp_path: Path, mount: Callable[..., None], tool: Tool) -> None:
    path, target = image(tmp_path / "a.img", 16), tmp_path / "mnt"
    target.mkdir()
    with path.open("r+b") as file:  # a partition table with one Linux partition from sector 2048 on
        file.seek(446)
        file.write(struct.pack("<4s4sII", b"\0\0\0\0", b"\x83\0\0\0", 2048, 16 * 2048 - 2048))
        file.seek(510)
        file.write(b"\x55\xaa")
    device = subprocess.run(
        [tool("losetup"), "--find", "--show", "--partscan", path], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        if not Path(f"{device}p1").exists():
            pytest.skip("no partitions on loop devices here")
        subprocess.run([tool("mkfs.ext4"), "-q", f"{device}p1"], check=True)
        mount(f"{device}p1", target, "ext4")
        assert host_use(device, identify_disk(device)) is not None
        subprocess.run(["umount", target], check=True)
    finally:
        subprocess.run([tool("losetup"), "--detach", device], check=True)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("block-8-0", "block-8-0", True),
        ("block-8-0", "block-8-0~1", True),
        ("file-8-1-77~2", "file-8-1-77", True),
        ("block-8-0~1", "block-8-0~2", False),
        ("block-8-0", "block-8-01", False),
    ],
)
def test_a_disk_and_its_partition_share_blocks_and_two_partitions_do_not(one: str, other: str, *, shared: bool) -> None:
    assert overlap(one, other) is shared
