"""What the first bytes of a disk say that it contains."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvcore.host.disks.disk_contents import Holds, contents_of, recognized


def run(*argv: str) -> None:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"no {argv[0]} here")
    subprocess.run(argv, check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> str:
    path = tmp_path / "disk"
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(16 << 20)
    return str(path)


@pytest.mark.parametrize("name", ["qcow2", "vmdk", "vhdx", "vdi", "vpc", "qed", "parallels"])
def test_the_formats_of_qemu_img(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / "disk")
    run("qemu-img", "create", "-q", "-f", name, path, "10M")
    found = contents_of(path)
    assert found is not None
    assert (found.holds, found.name) == (Holds.IMAGE, name)


@pytest.mark.parametrize("name", ["ext2", "ext3", "ext4"])
def test_the_file_systems_of_linux_and_their_sizes(disk: str, name: str) -> None:
    run(f"mkfs.{name}", "-q", "-F", disk)
    found = contents_of(disk)
    assert found is not None
    assert (found.holds, found.name, found.needs_bytes, found.dirty) == (Holds.FILESYSTEM, name, 16 << 20, False)


def test_a_journal_that_has_to_be_replayed(disk: str) -> None:
    run("mkfs.ext4", "-q", "-F", disk)
    run("debugfs", "-w", "-R", "feature needs_recovery", disk)
    found = contents_of(disk)
    assert found is not None
    assert found.dirty


def test_swap_and_archives(disk: str, tmp_path: Path) -> None:
    run("mkswap", disk)
    found = contents_of(disk)
    assert found is not None
    assert (found.holds, found.name) == (Holds.VOLUME, "swap")
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add(__file__)
    found = contents_of(str(tmp_path / "root.tar"))
    assert found is not None
    assert found.words == "a tar archive"


def mbr(kind: int, status: int = 0x80, sectors: int = 2048) -> bytes:
    entry = bytes([status, 0, 0, 0, kind, 0, 0, 0]) + struct.pack("<II", 2048, sectors)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (mbr(0x83), "mbr"),
        (mbr(0xEE, 0), "gpt"),
        (bytes(512) + b"EFI PART", "gpt"),
        (bytes(4096) + b"EFI PART", "gpt"),
        (mbr(0x83, status=0x33), None),
        (mbr(0), None),
        (mbr(0x83, sectors=0), None),
        (bytes(510) + b"\x55\xaa", None),
        (b"", None),
        (bytes(70000), "zeros"),
        (b"LUKS\xba\xbe\0\2", "luks"),
        (mbr(0x83).ljust(32769, b"\0") + b"CD001", "iso9660"),
    ],
)
def test_partitions_and_what_only_looks_like_them(head: bytes, name: str | None) -> None:
    found = recognized(head)
    assert (found and found.name) == name


@given(st.binary(max_size=2100), st.sampled_from([b"XFSB", b"hsqs", b"QFI\xfb", bytes(1024 + 56) + b"\x53\xef", b""]))
def test_no_bytes_raise(data: bytes, magic: bytes) -> None:
    recognized(magic + data)
