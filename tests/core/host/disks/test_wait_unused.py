"""Waiting until a disk is unused: a copy of its mount in another namespace uses it too."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hvcore.errors import LeftoverError
from hvcore.host.confinement.own_root import with_own_root
from hvcore.host.disks.disk_identity import wait_unused


def test_an_unused_or_missing_disk_is_unused(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x")
    wait_unused(str(tmp_path / "a.img"), 0)
    wait_unused(str(tmp_path / "none"), 0)


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_mount_left_in_another_namespace_is_an_error_with_its_holder(
    tmp_path: Path, mount: Callable[..., None], tool: Callable[[str], str]
) -> None:
    path, target = tmp_path / "a.img", tmp_path / "mnt"
    target.mkdir()
    with path.open("wb") as image:
        image.truncate(4 * 1024 * 1024)
    subprocess.run([tool("mkfs.ext4"), "-q", path], check=True)
    made = subprocess.run([tool("losetup"), "--find", "--show", path], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip("no loop device here")
    device = made.stdout.strip()
    try:
        mount(device, target, "ext4")
        keep = [
            tool("unshare"),
            "--mount",
            "--propagation",
            "unchanged" if with_own_root() else "private",
            sys.executable,
            "-c",
        ]
        keep.append("import sys; print(flush=True); sys.stdin.read()")
        with subprocess.Popen(keep, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
            assert popen.stdout is not None
            popen.stdout.readline()
            subprocess.run(["umount", target], check=True)
            subprocess.run([tool("losetup"), "--detach", device], check=True)
            with pytest.raises(LeftoverError, match=rf"still in use after its unmount, mounted for pid {popen.pid} \("):
                wait_unused(str(path), 0.05)
        wait_unused(str(path), 5)
    finally:
        subprocess.run([tool("losetup"), "--detach", device], check=False, capture_output=True)
