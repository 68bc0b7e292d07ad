"""Files that survive a crash, private directories, and removal of trees."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.errors import LeftoverError, NodeError
from hvcore.host.files import private_dir, read_regular, remove_tree, tail, write_atomic

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Mount = Callable[..., None]


def test_a_private_directory_is_made_for_the_owner_only_with_any_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = private_dir(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(old)
    assert [path.stat().st_mode & 0o777 for path in (made, made.parent, made.parent.parent)] == [0o700] * 3


def test_an_existing_directory_is_used_again(tmp_path: Path) -> None:
    assert private_dir(private_dir(tmp_path / "a")) == tmp_path / "a"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)
    with pytest.raises(NodeError, match=rf"others can write to it, got mode {mode:04o}; chmod 0700"):
        private_dir(tmp_path / "a")


def test_a_link_to_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(NodeError, match="cannot be used"):
        private_dir(tmp_path / "link")


def test_a_dangling_link_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").touch()
    for name in ("link", "file", "file/below"):
        with pytest.raises(NodeError, match="cannot be used"):
            private_dir(tmp_path / name)


@ROOT
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    os.chown(tmp_path / "a", 12345, 12345)
    with pytest.raises(NodeError, match="belongs to uid 12345"):
        private_dir(tmp_path / "a")


def test_a_file_is_replaced_in_one_step_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["f"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.mkdir()
    (path / "x").touch()
    with pytest.raises(OSError, match=r"directory"):
        write_atomic(path, b"new")
    assert os.listdir(tmp_path) == ["f"]


@pytest.mark.live
@ROOT
def test_a_full_disk_leaves_the_old_content_and_no_temporary_file(tmp_path: Path, mount: Mount) -> None:
    mount("tmpfs", tmp_path, "tmpfs", 0, "size=64k")
    path = tmp_path / "f"
    write_atomic(path, b"old")
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"x" * 128 * 1024)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_reading_follows_no_link_and_waits_for_no_fifo(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    for name, number in (("link", errno.ELOOP), ("fifo", errno.EINVAL), (".", errno.EINVAL)):
        with pytest.raises(OSError) as caught:
            read_regular(tmp_path / name, limit=10)
        assert caught.value.errno == number


def test_reading_is_limited_from_either_end(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    assert read_regular(tmp_path / "f", limit=4) == b"0123"
    assert read_regular(tmp_path / "f", limit=4, from_end=True) == b"6789"
    assert read_regular(tmp_path / "f", limit=40, from_end=True) == b"0123456789"


def test_the_tail_of_a_log_with_any_bytes_is_text(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 70_000 + b"\xff end")
    assert tail(tmp_path / "log").endswith("\\xff end")
    assert len(tail(tmp_path / "log")) < 66_000
    assert tail(tmp_path / "none") == ""


def test_a_tree_is_removed_and_links_out_of_it_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    (tree / "a" / "link").symlink_to(outside)
    (tree / "file-link").symlink_to(outside / "precious")
    os.mkfifo(tree / "a" / "fifo")
    (tree / "\udcff").touch()
    remove_tree(tree)
    assert not tree.exists()
    assert (outside / "precious").read_text() == "x"


def test_removing_a_missing_tree_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "none")


def test_a_link_in_place_of_the_tree_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "precious").touch()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(OSError, match="directory"):
        remove_tree(tmp_path / "link")
    assert (tmp_path / "real" / "precious").exists()


def test_a_guest_cannot_nest_directories_so_deep_that_they_stay(run_dir: Path) -> None:
    tree = run_dir / "tree"
    tree.mkdir()
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deep", dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(tree)
    assert not tree.exists()


@pytest.mark.live
@ROOT
@pytest.mark.parametrize("where", ["", "a/b"])
def test_nothing_is_removed_while_a_file_system_is_mounted_below(tmp_path: Path, mount: Mount, where: str) -> None:
    tree, disk = tmp_path / "tree", tmp_path / "disk"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "file").touch()
    disk.mkdir()
    (disk / "precious").touch()
    mount(str(disk), tree / where, "", 4096)  # MS_BIND: the same file system, so that only the table shows it
    with pytest.raises(LeftoverError, match="still mounted, nothing below"):
        remove_tree(tree)
    assert (disk / "precious").exists()
    subprocess.run(["umount", tree / where], check=True)
    assert (tree / "file").exists()
    remove_tree(tree)
    assert not tree.exists()
