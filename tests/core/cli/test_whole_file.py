"""A file that hv writes for others: whole or not at all, and never in place of something that is not a file."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from hvcore.cli.whole_file import write_whole


def test_the_new_file_replaces_the_old_one_and_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    path.chmod(0o600)
    inode = path.stat().st_ino
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_ino != inode
    assert os.listdir(tmp_path) == ["picture.png"]


def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    """With /dev/null as the file of a picture, root would have replaced it by the picture, for every program of the node."""
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        device.write_bytes(b"")
    except PermissionError:
        pytest.skip("devices can be made by root only, and not on this file system")
    write_whole(device, b"picture")
    assert stat.S_ISCHR(device.stat().st_mode)


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    write_whole(fifo, b"picture")
    reader.join(30)
    assert read == [b"picture"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "dangling").symlink_to("later")
    write_whole(tmp_path / "link", b"new")
    write_whole(tmp_path / "dangling", b"first")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "later").read_bytes() == b"first"


def test_a_link_that_somebody_has_prepared_for_the_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".picture.png.{os.getpid()}.new").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "picture.png", b"new")
    assert victim.read_bytes() == b"precious"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"new")
