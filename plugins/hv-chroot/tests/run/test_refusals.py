"""Starts that cannot succeed: one clear error each, and nothing left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from images import Build, Leftovers

import hvcore
import hvcore.plugin

pytestmark = pytest.mark.live


@pytest.fixture
def refused(node: hvcore.Node, leftovers: Leftovers) -> Callable[..., str]:
    """The text of the error of a start, which must leave nothing behind."""

    def run(instance: hvcore.Instance, kind: type[hvcore.HvError], **options: Any) -> str:
        with pytest.raises(kind) as caught:
            node.driver("chroot").start(instance, **options)
        assert leftovers() == []
        assert not getattr(caught.value, "__notes__", [])
        return str(caught.value)

    return run


def test_script_missing(refused: Any, images: Any, web1: Build) -> None:
    text = refused(web1(images(None)), hvcore.OperationError)
    assert "'/ganeti-chroot' on disk" in text
    assert "does not exist; create it, or set params.init_script" in text


def test_script_not_executable(refused: Any, images: Any, web1: Build) -> None:
    tree = images.tree()
    (tree / "ganeti-chroot").chmod(0o644)
    assert "is not executable, got mode 0644" in refused(web1(images.pack(tree)), hvcore.OperationError)


def test_script_is_a_directory(refused: Any, images: Any, web1: Build) -> None:
    assert "is not a file" in refused(web1(images(), init_script="/etc"), hvcore.OperationError)


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_script_is_a_fifo_a_socket_or_a_device(refused: Any, images: Any, web1: Build, kind: int) -> None:
    tree = images.tree(None)
    os.mknod(tree / "ganeti-chroot", kind | 0o755, os.makedev(1, 3))
    assert "is not a file" in refused(web1(tree), hvcore.VerifyError)


def test_script_is_a_link_to_itself(refused: Any, images: Any, web1: Build) -> None:
    tree = images.tree(None)
    (tree / "ganeti-chroot").symlink_to("ganeti-chroot")
    assert "cannot be read, got Too many levels" in refused(web1(images.pack(tree)), hvcore.OperationError)


def test_script_that_is_set_uid_runs_as_its_root_like_any_other(node: hvcore.Node, images: Any, web1: Build) -> None:
    tree = images.tree("#!/bin/sh\nid -u > /ran-as; [ $1 = stop ] || sleep 1000 &\n")
    os.chown(tree / "ganeti-chroot", 1000, 1000)
    (tree / "ganeti-chroot").chmod(0o6755)
    node.driver("chroot").start(web1(tree))
    assert (tree / "ran-as").read_text() == "0\n"
    node.stop("web1", force=True)


@pytest.mark.parametrize("target", ["/bin/bash", "../../../../../../../bin/bash", "/proc/self/root/bin/bash"])
def test_script_that_is_a_link_out_of_the_root(refused: Any, images: Any, web1: Build, target: str) -> None:
    tree = images.tree(None)
    (tree / "ganeti-chroot").symlink_to(target)
    assert Path("/bin/bash").exists()
    assert "does not exist" in refused(web1(images.pack(tree)), hvcore.OperationError)


def test_script_that_is_a_link_inside_is_followed(node: hvcore.Node, images: Any, web1: Build) -> None:
    tree = images.tree()
    (tree / "ganeti-chroot").rename(tree / "etc/rc")
    (tree / "ganeti-chroot").symlink_to("/etc/rc")
    node.driver("chroot").start(web1(images.pack(tree)))
    node.stop("web1")


def test_script_with_a_missing_interpreter(refused: Any, images: Any, web1: Build) -> None:
    text = refused(web1(images("#!/bin/nosuch\n")), hvcore.OperationError)
    assert "needs the interpreter '/bin/nosuch', which is not a program in the root" in text


def test_script_exits_3(refused: Any, images: Any, web1: Build) -> None:
    script = "#!/bin/sh\nsleep 1000 &\necho one; echo the last line >&2; exit 3\n"
    text = refused(web1(images(script)), hvcore.LaunchError)
    assert text.startswith("web1: /ganeti-chroot start exited with 3 after ")
    assert text.endswith(': "the last line"')


def test_script_killed_by_a_signal(refused: Any, images: Any, web1: Build) -> None:
    assert "was killed by SIGKILL" in refused(web1(images("#!/bin/sh\nkill -9 $$\n")), hvcore.LaunchError)


def test_script_hangs(refused: Any, images: Any, web1: Build) -> None:
    begun = time.monotonic()
    instance = web1(images("#!/bin/sh\necho waiting for godot\nsleep 1000\n"), script_deadline=3)
    text = refused(instance, hvcore.DeadlineError)
    assert text.startswith(
        'web1: no end of /ganeti-chroot start within 3.0 s; its last output was "waiting for godot"; '
    )
    assert time.monotonic() - begun < 60  # the script takes 1000 s


def test_callers_deadline_is_kept_too(refused: Any, images: Any, web1: Build) -> None:
    refused(web1(images("#!/bin/sh\nsleep 1000\n")), hvcore.DeadlineError, deadline_s=0.4)


def test_script_hangs_and_ignores_everything(refused: Any, images: Any, web1: Build) -> None:
    script = "#!/bin/sh\ntrap '' TERM INT HUP\nwhile :; do sleep 1; done\n"
    refused(web1(images(script), script_deadline=0.3), hvcore.DeadlineError)


def test_script_floods(refused: Any, images: Any, web1: Build, tmp_path: Path) -> None:
    script = "#!/bin/sh\nwhile :; do yes flood; done\n"
    text = refused(web1(images(script), script_deadline=0.5), hvcore.DeadlineError)
    assert len(text) < 1000


def test_script_floods_and_then_succeeds(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    script = "#!/bin/sh\n[ $1 = stop ] && exec kill -9 -1\nyes flood | head -c 3000000\nyes &\nexit 0\n"
    node.driver("chroot").start(web1(images(script)))
    log = tmp_path / "run/instances/web1/output/log"
    assert log.stat().st_size <= 1024 * 1024
    node.stop("web1")


def test_daemon_that_keeps_the_output_open_holds_nothing_up(node: hvcore.Node, images: Any, web1: Build) -> None:
    begun = time.monotonic()
    node.driver("chroot").start(web1(images("#!/bin/sh\n[ $1 = stop ] || sleep 1000 &\n")))
    assert time.monotonic() - begun < 60  # the script takes 1000 s
    node.stop("web1")


def test_script_writes_bytes_that_are_not_text(refused: Any, images: Any, web1: Build) -> None:
    script = "#!/bin/sh\necho -e 'caf\\xe9 \\x1b'; exit 1\n"
    assert "caf\\xe9" in refused(web1(images(script)), hvcore.LaunchError)


def test_corrupt_image(refused: Any, images: Any, web1: Build, tmp_path: Path) -> None:
    image = tmp_path / "noise.img"
    image.write_bytes(os.urandom(1024 * 1024))
    text = refused(web1(image), hvcore.LaunchError)
    assert "noise.img', on which no known file system was found: mount exited with 32" in text


def test_damaged_file_system(refused: Any, images: Any, web1: Build) -> None:
    image = images()
    with image.open("r+b") as file:
        file.seek(1024 + 4)  # the superblock's block count
        file.write(b"\xff" * 40)
    refused(web1(image), hvcore.LaunchError)


@pytest.mark.parametrize("name", ["dev", "proc"])
def test_dev_and_proc_must_be_directories(refused: Any, images: Any, web1: Build, name: str) -> None:
    tree = images.tree()
    (tree / name).rmdir()
    (tree / name).symlink_to("/../../../etc")
    assert f"/{name} is not a directory" in refused(web1(images.pack(tree)), hvcore.OperationError)


def test_read_only_disk_without_dev(refused: Any, images: Any, web1: Build) -> None:
    tree = images.tree()
    (tree / "dev").rmdir()
    text = refused(web1(images.pack(tree), read_only=True), hvcore.OperationError)
    assert "/dev does not exist, and the root is read-only" in text


def test_no_disk(refused: Any) -> None:
    refused(hvcore.Instance(name="web1", driver="chroot"), hvcore.ParamsError)


def test_disk_that_does_not_exist(refused: Any, web1: Build) -> None:
    text = refused(web1("/nonexistent/web1.img"), hvcore.VerifyError)
    assert "disks[0].path: does not exist, got '/nonexistent/web1.img'; give an image file or a block device" in text


def test_directory_for_a_disk(refused: Any, web1: Build, tmp_path: Path) -> None:
    assert "disks[0].path: is a directory" in refused(web1(tmp_path, as_root=False), hvcore.VerifyError)


def test_empty_image(refused: Any, web1: Build, tmp_path: Path) -> None:
    (tmp_path / "empty.img").touch()
    assert "disks[0].path: is empty" in refused(web1(tmp_path / "empty.img"), hvcore.VerifyError)


def test_fifo_for_a_disk(refused: Any, web1: Build, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    text = refused(web1(tmp_path / "fifo"), hvcore.VerifyError)
    assert "neither a regular file nor a block device" in text


def test_image_that_the_host_has_mounted(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    image = images()
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", "-o", "loop", "--", str(image), str(tmp_path / "mnt")], check=True)
    try:
        with pytest.raises(hvcore.DiskInUseError, match=f"mounted at {tmp_path / 'mnt'}"):
            node.driver("chroot").start(web1(image))
        assert node.instances() == []
    finally:
        subprocess.run(["umount", str(tmp_path / "mnt")], check=True)


def test_one_image_under_two_names_is_refused_naming_the_holder(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    image = images()
    (tmp_path / "link.img").symlink_to(image)
    os.link(image, tmp_path / "hard.img")
    node.driver("chroot").start(web1(image))
    for name in ("link.img", "hard.img"):
        with pytest.raises(hvcore.DiskInUseError, match="already in use by instance web1"):
            node.driver("chroot").start(web1(tmp_path / name, name="web2"))
    assert [info.name for info in node.instances()] == ["web1"]
    node.stop("web1")


def test_without_root_there_is_a_clear_error(images: Any, web1: Build, tmp_path: Path) -> None:
    from hv_chroot.run.verify import verify
    from hv_chroot.spec import decide
    from hvcore.plugins.loader import load

    instance = web1("/dev/null")
    driver = hvcore.Node(tmp_path / "run").driver("chroot")
    spec = decide(instance, driver.check(instance))
    host = hvcore.plugin.Host(run_dir=tmp_path, privileged=False, uid_pool=range(1, 2))
    assert any(
        "privileges: only root can mount a disk" in str(problem) for problem in verify(load("chroot").hooks, spec, host)
    )


def test_missing_tools_are_named(web1: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    driver = hvcore.Node(tmp_path / "run").driver("chroot")
    with pytest.raises(hvcore.VerifyError) as caught:
        driver.verify(web1("/nonexistent"))
    assert "bwrap: is not installed on this node; install bubblewrap" in str(caught.value)


def test_two_starts_at_once_are_one(node: hvcore.Node, images: Any, web1: Build, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    instance = web1(images())
    node.driver("chroot")
    with ThreadPoolExecutor(4) as pool:
        # Three wait for the first, for as long as that takes on a busy machine: by default a start waits 5 s.
        outcomes = list(pool.map(lambda _: node.driver("chroot").start(instance, deadline_s=300, busy_s=300), range(4)))
    assert sorted(outcome.changed for outcome in outcomes) == [False, False, False, True]
    node.stop("web1")


def verified(node: hvcore.Node, instance: hvcore.Instance) -> str:
    with pytest.raises(hvcore.VerifyError) as caught:
        node.driver("chroot").verify(instance)
    return str(caught.value)


def test_verify_looks_into_a_directory(node: hvcore.Node, refused: Any, images: Any, web1: Build) -> None:
    tree = images.tree("#!/bin/sh\r\nsleep 1000 &\r\n")
    instance = web1(tree)
    assert "params.init_script: has Windows line ends (CRLF)" in verified(node, instance)
    assert "has Windows line ends (CRLF)" in refused(instance, hvcore.VerifyError)
    (tree / "ganeti-chroot").write_text("#!/usr/bin/python3\n")
    assert "needs the interpreter '/usr/bin/python3'" in verified(node, instance)


def test_the_script_on_a_disk_is_checked_once_it_is_mounted(refused: Any, images: Any, web1: Build) -> None:
    text = refused(web1(images("#!/bin/sh\r\n")), hvcore.OperationError)
    assert "'/ganeti-chroot' on disk" in text
    assert "has Windows line ends (CRLF), which its interpreter does not understand; convert it" in text


def test_a_whole_disk_and_a_journal_are_refused_before_a_mount(
    node: hvcore.Node, images: Any, web1: Build, tmp_path: Path
) -> None:
    whole = tmp_path / "whole.img"
    entry = b"\x80\0\0\0\x83\0\0\0" + (2048).to_bytes(4, "little") * 2
    whole.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes(1 << 20))
    assert "is a whole disk with partitions (MBR)" in verified(node, web1(whole))
    journal = images()
    subprocess.run(["debugfs", "-w", "-R", "feature has_journal needs_recovery", journal], check=True)
    assert "whose journal was not replayed" in verified(node, web1(journal, overlay="memory"))


def test_the_headline_of_a_mount_is_its_cause(refused: Any, web1: Build, tmp_path: Path) -> None:
    unknown = tmp_path / "unknown.img"
    unknown.write_bytes(b"x" * (1 << 20))
    text = refused(web1(unknown), hvcore.LaunchError)
    assert "on which no known file system was found: mount exited with 32" in text
    assert "wrong fs type" in text
    assert "dmesg(1)" not in text
