"""Waiting until a disk is unused: a copy of its mount in another namespace uses it too."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hvcore.errors import LeftoverError
from hvcore.host.confinement.own_root import with_own_root
from hvcore.host.disks.wait_unused import wait_unused

_NEEDS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
_READS: Final = (sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()")


def test_an_unused_or_missing_disk_is_unused(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x")
    wait_unused(str(tmp_path / "a.img"), 0)
    wait_unused(str(tmp_path / "none"), 0)


@pytest.fixture
def image(tmp_path: Path, tool: Callable[[str], str]) -> Path:
    path = tmp_path / "a.img"
    with path.open("wb") as file:
        file.truncate(4 * 1024 * 1024)
    subprocess.run([tool("mkfs.ext4"), "-q", path], check=True)
    return path


@pytest.fixture
def loop(image: Path, tool: Callable[[str], str]) -> Iterator[str]:
    made = subprocess.run([tool("losetup"), "--find", "--show", image], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip("no loop device here")
    yield made.stdout.strip()
    subprocess.run([tool("losetup"), "--detach", made.stdout.strip()], check=False, capture_output=True)


def detach(device: str, tool: Callable[[str], str]) -> None:
    """From now on, the device goes with its last user."""
    subprocess.run([tool("losetup"), "--detach", device], check=True)


@pytest.mark.live
@_NEEDS_ROOT
def test_a_mount_left_in_another_namespace_is_an_error_with_its_holder(
    tmp_path: Path, image: Path, loop: str, mount: Callable[..., None], tool: Callable[[str], str]
) -> None:
    target = tmp_path / "mnt"
    target.mkdir()
    mount(loop, target, "ext4")
    propagation = "unchanged" if with_own_root() else "private"
    keep = [tool("unshare"), "--mount", "--propagation", propagation, *_READS]
    with subprocess.Popen(keep, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        subprocess.run(["umount", target], check=True)
        detach(loop, tool)
        with pytest.raises(LeftoverError, match=rf"still in use after its unmount, mounted for pid {popen.pid} \("):
            wait_unused(str(image), 0.05)
    wait_unused(str(image), 5)


@pytest.mark.live
@_NEEDS_ROOT
def test_a_program_that_has_the_device_open_is_named(image: Path, loop: str, tool: Callable[[str], str]) -> None:
    with open(loop, "rb") as device:
        keep = subprocess.Popen(_READS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[device.fileno()])
    with keep as popen:
        assert popen.stdout is not None
        popen.stdout.readline()
        detach(loop, tool)
        with pytest.raises(LeftoverError, match=rf"after its unmount, opened by pid {popen.pid} \(python"):
            wait_unused(str(image), 0.05)
    wait_unused(str(image), 5)


@pytest.mark.live
@_NEEDS_ROOT
def test_a_mount_that_goes_meanwhile_is_waited_for(
    tmp_path: Path, image: Path, loop: str, mount: Callable[..., None], tool: Callable[[str], str]
) -> None:
    target = tmp_path / "mnt"
    target.mkdir()
    mount(loop, target, "ext4")
    goes = threading.Timer(0.2, subprocess.run, [["umount", target]])
    detach(loop, tool)
    goes.start()
    wait_unused(str(image), 60)
    goes.join()


@pytest.mark.live
@_NEEDS_ROOT
def test_a_device_that_no_process_has_is_waited_for_longer(image: Path, loop: str, tool: Callable[[str], str]) -> None:
    goes = threading.Timer(0.5, detach, [loop, tool])
    goes.start()
    wait_unused(str(image), 0.4)
    goes.join()


@pytest.mark.live
@_NEEDS_ROOT
def test_a_device_that_no_process_has_and_that_stays_is_an_error(image: Path, loop: str) -> None:
    with pytest.raises(LeftoverError, match=rf"used by the host, attached as {loop}, for no process that can be seen"):
        wait_unused(str(image), 0.05)


@pytest.mark.live
@_NEEDS_ROOT
def test_a_mount_of_the_operator_is_named(tmp_path: Path, image: Path, loop: str, mount: Callable[..., None]) -> None:
    target = tmp_path / "mnt"
    target.mkdir()
    mount(loop, target, "ext4")
    with pytest.raises(LeftoverError, match=rf"used by the host, attached as {loop} and mounted at {target}; end"):
        wait_unused(str(image), 0.05)
