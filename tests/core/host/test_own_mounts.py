"""Entering the mount namespace of a process: paths lead where they did before, also in a plain chroot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hvcore.host.own_mounts import in_own_mounts, root_in_mounts_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

ROOT: Final = "run/instances/web1/root"
_SLEEPER: Final = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
assert libc.mount(b"none", os.fsencode(sys.argv[2]), b"tmpfs", 0, None) == 0
open(f"{sys.argv[2]}/mark", "w").close()
os.chroot(sys.argv[1])
os.chdir("/")
print(flush=True)
os.read(0, 1)
"""
_CALLER: Final = """
import os, sys
from pathlib import Path
from hvcore.host.own_mounts import in_own_mounts
os.chroot(sys.argv[1])
os.chdir("/")
print(*in_own_mounts(Path("/run"), lambda: [*sorted(os.listdir("/")), *os.listdir("/seen")], like=int(sys.argv[2])))
"""


@pytest.fixture
def chroot(tmp_path: Path, mount: Callable[..., None]) -> Path:
    """A directory with /proc, on a mount that is not shared, with the root of an instance: this directory again."""
    share = tmp_path / "share"
    share.mkdir()
    mount("none", share, "tmpfs")
    mount("none", share, flags=0x40000)  # MS_PRIVATE
    top = share / "top"
    for name in ("proc", ROOT, "seen"):
        (top / name).mkdir(parents=True)
    mount("/proc", top / "proc", flags=0x1000 | 0x4000)  # MS_BIND, MS_REC
    mount("none", top / "proc", flags=0x40000 | 0x4000)
    mount(str(top), top / ROOT, flags=0x1000)
    return top


@pytest.fixture(params=[".", "seen"])
def process(chroot: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """A process with the instance's root, or a directory below it, and with a mount that only it sees."""
    command = [sys.executable, "-c", _SLEEPER, str(chroot / ROOT / request.param), str(chroot / "seen")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as popen:
        assert popen.stdout is not None
        assert popen.stdout.readline() == b"\n"
        yield popen.pid
        popen.communicate()


def test_paths_of_a_caller_in_a_chroot_stay_inside(chroot: Path, process: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CALLER, str(chroot), str(process)], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["proc", "run", "seen", "mark"]


def test_paths_of_an_ordinary_caller_stay_the_same(chroot: Path, process: int) -> None:
    seen = in_own_mounts(chroot / "run", lambda: os.listdir(chroot / "seen"), like=process)
    assert seen == ["mark"]
    assert os.listdir(chroot / "seen") == []


def test_a_program_is_run_there_with_the_same_root(chroot: Path, process: int) -> None:
    entering = ["nsenter", f"--mount=/proc/{process}/ns/mnt", f"--root={root_in_mounts_of(process)}"]
    done = subprocess.run([*entering, "ls", str(chroot / "seen")], check=True, capture_output=True, text=True)
    assert done.stdout == "mark\n"


def test_a_process_that_is_gone_is_an_error(chroot: Path) -> None:
    with subprocess.Popen(["true"]) as popen:
        popen.wait()
    with pytest.raises(OSError, match="No such"):
        in_own_mounts(chroot / "run", list, like=popen.pid)
