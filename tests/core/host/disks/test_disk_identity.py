"""The identity of a disk by any path, and whether the host itself uses it."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.host.disks.disk_identity import block_key, disks_overlap, host_use, identify_disk, overlap, sharing

PARTS = st.sampled_from(
    ["block-8-0", "block-8-0~1", "block-8-0~2", "block-8-1", "file-8-1-7", "file-8-1-77", "block-9-0"]
)
KEYS = st.lists(PARTS, min_size=1, max_size=3).map("^".join)

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


def test_a_file_that_cannot_be_a_disk_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null"):
        with pytest.raises(OSError, match="neither a regular file nor a block device"):
            identify_disk(str(path))
    with pytest.raises(FileNotFoundError):
        identify_disk(str(tmp_path / "none"))


def test_the_key_is_a_file_name(tmp_path: Path) -> None:
    assert "/" not in identify_disk(str(image(tmp_path / "a"))).key


@pytest.mark.live
def test_a_loop_device_has_the_key_of_its_file_by_any_device_node(tmp_path: Path, loop: Callable[[Path], str]) -> None:
    path = image(tmp_path / "a.img")
    key = identify_disk(str(path)).key
    first, second = loop(path), loop(path)
    os.mknod(tmp_path / "node", 0o600 | 0o060000, os.stat(first).st_rdev)
    (tmp_path / "link").symlink_to(first)
    for name in (first, second, str(tmp_path / "node"), str(tmp_path / "link")):
        found = identify_disk(name)
        assert (found.key, found.block_device, found.size_bytes) == (key, True, 4 * 1024 * 1024)


@pytest.mark.live
def test_a_file_behind_a_loop_device_is_used_by_the_host(tmp_path: Path, loop: Callable[[Path], str]) -> None:
    path = image(tmp_path / "a.img")
    device = loop(path)
    assert host_use(str(path), identify_disk(str(path))) == f"the host, attached as {device}"
    assert host_use(device, identify_disk(device)) is None  # a device does not conflict with itself


@pytest.mark.live
def test_a_loop_device_over_a_loop_device_is_the_same_disk(tmp_path: Path, loop: Callable[[Path], str]) -> None:
    path = image(tmp_path / "a.img")
    found = identify_disk(str(path))
    first = loop(path)
    second = loop(Path(first))
    os.mknod(tmp_path / "node", 0o600 | 0o060000, os.stat(first).st_rdev)
    third = loop(tmp_path / "node")  # the same device by another node
    for name in (first, second, third):
        assert identify_disk(name).key == found.key
    other = loop(image(tmp_path / "b.img"))
    assert not disks_overlap(identify_disk(loop(Path(other))), found)


@pytest.mark.live
def test_a_loop_device_is_used_by_one_over_it_and_not_by_what_it_maps(
    tmp_path: Path, loop: Callable[[Path], str], mount: Callable[..., None], tool: Tool
) -> None:
    path, target = image(tmp_path / "a.img"), tmp_path / "mnt"
    target.mkdir()
    subprocess.run([tool("mkfs.ext4"), "-q", path], check=True)
    first = loop(path)
    second = loop(Path(first))
    assert host_use(second, identify_disk(second)) is None
    assert host_use(first, identify_disk(first)) == f"the host, attached as {second}"
    mount(first, target, "ext4")  # below the second one
    assert host_use(second, identify_disk(second)) == f"the host, mounted at {target}"


@pytest.mark.live
def test_a_mounted_disk_is_used_by_the_host_by_any_path(
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
def test_a_device_open_with_o_excl_is_used(tmp_path: Path, loop: Callable[[Path], str], tool: Tool) -> None:
    """Swap, md, lvm and QEMU use O_EXCL, which the kernel allows only one of them."""
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
        ("block-253-0^block-8-17", "block-8-17", True),
        ("block-8-16", "block-253-0^block-8-16~1", True),
        ("block-253-0^block-8-16~1", "block-8-16~2", False),
        ("block-253-0^block-8-16", "block-253-1^block-8-16", False),
        ("block-253-1^block-253-0^block-8-16", "block-253-0^block-8-16", True),
        ("block-9-0~1^block-8-16", "block-9-0^block-8-16", True),
    ],
)
def test_a_disk_overlaps_its_partitions_and_devices_made_of_it_and_these_do_not_overlap_each_other(
    one: str, other: str, *, shared: bool
) -> None:
    assert overlap(one, other) is shared
    assert sharing([one, f"{one}.web1"], other) == ([one, f"{one}.web1"] if shared else [])


@given(st.lists(KEYS, max_size=8), KEYS)
def test_sharing_finds_every_name_that_overlaps(names: list[str], key: str) -> None:
    assert sharing(names, key) == [name for name in names if overlap(name, key)]


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """Two disks with a partition each, an array of those, with a partition, a mapped device on it, another on the disk.

    The kernels of many machines of developers and of builders have neither dm nor md, so the tree is made by hand.
    """
    block = tmp_path / "sys/dev/block"
    block.mkdir(parents=True)

    def device(number: str, place: str, *, partition: str = "", made_of: tuple[str, ...] = ()) -> None:
        here = tmp_path / "sys/devices" / place
        (here / "slaves").mkdir(parents=True)
        (here / "dev").write_text(f"{number}\n")
        if partition:
            (here / "partition").write_text(f"{partition}\n")
        for other in made_of:
            (here / "slaves" / other.rpartition("/")[2]).symlink_to(tmp_path / "sys/devices" / other)
        (block / number).symlink_to(here)

    for letter, minor in (("a", 0), ("b", 16)):
        device(f"8:{minor}", f"sd{letter}")
        device(f"8:{minor + 1}", f"sd{letter}/sd{letter}1", partition="1")
    device("9:0", "md0", made_of=("sda/sda1", "sdb/sdb1"))
    device("259:0", "md0/md0p1", partition="1")
    device("253:0", "dm-0", made_of=("md0",))
    device("253:1", "dm-1", made_of=("sda",))
    return tmp_path / "sys"


@pytest.mark.parametrize(
    ("number", "key"),
    [
        ((8, 0), "block-8-0"),
        ((8, 17), "block-8-16~1"),
        ((9, 0), "block-9-0^block-8-0~1^block-8-16~1"),
        ((259, 0), "block-9-0~1^block-8-0~1^block-8-16~1"),
        ((253, 0), "block-253-0^block-8-0~1^block-8-16~1^block-9-0"),
        ((253, 1), "block-253-1^block-8-0"),
        ((8, 99), "block-8-99"),
    ],
)
def test_the_key_of_a_mapped_device_and_an_array_has_the_devices_below(
    sysfs: Path, number: tuple[int, int], key: str
) -> None:
    assert block_key(os.makedev(*number), sysfs) == key


def test_an_array_of_too_many_devices_is_refused(sysfs: Path) -> None:
    many = sysfs / "devices/md1"
    (many / "slaves").mkdir(parents=True)
    for minor in range(30):
        (many / "slaves" / f"x{minor}").mkdir()
        (many / "slaves" / f"x{minor}/dev").write_text(f"65:{minor}")
    (sysfs / "dev/block/9:1").symlink_to(many)
    with pytest.raises(OSError, match=r"made of too many devices \(30\)"):
        block_key(os.makedev(9, 1), sysfs)


def test_a_swap_file_is_used_by_the_host(tmp_path: Path) -> None:
    path, link = image(tmp_path / "swap file"), tmp_path / "link"
    link.symlink_to(path)
    swaps = tmp_path / "swaps"
    name = str(path).replace(" ", "\\040")
    swaps.write_text(f"Filename Type Size Used Priority\n/gone\\040(deleted) file 1 0 -2\n{name} file 4096 0 -2\n")
    assert host_use(str(link), identify_disk(str(link)), swaps) == "the host, as swap"
    other = image(tmp_path / "other")
    assert host_use(str(other), identify_disk(str(other)), swaps) is None
    assert host_use(str(other), identify_disk(str(other)), tmp_path / "none") is None


def test_the_key_of_a_uri_is_stable_and_a_file_name() -> None:
    one, other = identify_disk("rbd:pool/web1"), identify_disk("rbd:pool/web2")
    assert one == identify_disk("rbd:pool/web1")
    assert one.key != other.key
    assert "/" not in one.key
    assert host_use("rbd:pool/web1", one) is None
