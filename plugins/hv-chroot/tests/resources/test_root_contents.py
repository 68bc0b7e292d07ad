"""Disks that cannot be mounted are refused before a mount is tried, with what they contain."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from hv_chroot.resources.root_contents import contents_problem, what_it_contains


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.truncate(8 << 20)
    return path


def problem(disk: Path, *, read_only: bool = False) -> str:
    return "; ".join(contents_problem(str(disk), disk.stat().st_size, read_only=read_only) or ())


def test_a_file_system_is_accepted_and_an_unknown_one_too(disk: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    assert problem(disk) == problem(disk, read_only=True) == ""
    disk.write_bytes(b"x" * 100000)
    assert problem(disk) == ""
    assert what_it_contains(str(disk)) == "on which no known file system was found"


def test_one_that_is_cut_off(disk: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    with disk.open("r+b") as file:
        file.truncate(4 << 20)
    assert "is cut off: an ext4 file system of 8388608 bytes on a disk of 4194304" in problem(disk)


def test_a_journal_that_cannot_be_replayed(disk: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", "-F", str(disk)], check=True)
    subprocess.run(["debugfs", "-w", "-R", "feature needs_recovery", str(disk)], check=True, capture_output=True)
    assert problem(disk) == ""
    assert "whose journal was not replayed" in problem(disk, read_only=True)
    assert "e2fsck -p" in problem(disk, read_only=True)


def test_a_btrfs_with_a_log_tree_cannot_be_mounted_read_only(disk: Path) -> None:
    """Its superblock, by hand: the magic number at 64 bytes, and at 96 the place of the log tree, 0 without one."""
    for log_root, refused in ((0, False), (30408704, True), (1 << 40, True)):
        with disk.open("r+b") as file:
            file.seek(65536)
            file.write((bytes(64) + b"_BHRfS_M" + bytes(24) + struct.pack("<Q", log_root)).ljust(4096, b"\0"))
        assert problem(disk) == ""
        found = problem(disk, read_only=True)
        assert ("a Btrfs file system whose journal was not replayed" in found) is refused
        assert ("mount it once read-write, and unmount it" in found) is refused


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (bytes(100), "is empty"),
        (b"QFI\xfb", "is a qcow2 image, which cannot be mounted; convert it"),
        (b"LUKS\xba\xbe", "is encrypted (LUKS); open it with cryptsetup"),
        (bytes(257) + b"ustar", "is a tar archive; unpack it into a directory, and set params.root_directory"),
        (b"\x1f\x8b\x08", "is compressed with gzip; unpack it first"),
        (bytes(512) + b"LABELONE", "is a physical volume of LVM; give a logical volume"),
        (bytes(4086) + b"SWAPSPACE2", "is swap space; give another"),
        (
            bytes(450) + b"\x83" + bytes(7) + struct.pack("<I", 2048) + bytes(48) + b"\x55\xaa",
            "is a whole disk with partitions (MBR), and a root is the file system of one; give the device",
        ),
    ],
)
def test_what_is_no_file_system_is_named(disk: Path, head: bytes, what: str) -> None:
    disk.write_bytes(head.ljust(8192, b"\0"))
    assert what in problem(disk)
