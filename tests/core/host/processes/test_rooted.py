"""Processes found by their root directory, also by a caller whose own root is a plain chroot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hvcore.host.processes.process import rooted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

INSTANCE: Final = "run/instances/web1"
_SLEEPER: Final = """
import ctypes, os, sys
if sys.argv[2] == "own":
    assert ctypes.CDLL(None).unshare(0x00020000) == 0  # CLONE_NEWNS
os.chroot(sys.argv[1])
os.chdir("/")
print(flush=True)
os.read(0, 1)
"""
_ASKER: Final = """
import json, os, sys
from pathlib import Path
from hvcore.host.processes.process import rooted
os.chroot(sys.argv[1])
os.chdir("/")
print(json.dumps([process.pid for process in rooted(Path("/", sys.argv[2]))]))
"""


@pytest.fixture
def chroot(tmp_path: Path, mount: Callable[..., None]) -> Path:
    """A directory with /proc, and with an instance whose root is a bind mount of ``source``."""
    top = tmp_path / "top"
    for name in ("proc", f"{INSTANCE}/root", "source/inner", "elsewhere"):
        (top / name).mkdir(parents=True)
    mount("/proc", top / "proc", flags=0x1000 | 0x4000)  # MS_BIND, MS_REC
    mount("none", top / "proc", flags=0x40000 | 0x4000)  # MS_PRIVATE, MS_REC
    for name in (f"{INSTANCE}/root", "elsewhere"):
        mount(str(top / "source"), top / name, flags=0x1000)
    return top


@pytest.fixture
def process() -> Iterator[Callable[[Path, str], int]]:
    """A process with that root, in its own mount namespace or not."""
    made: list[subprocess.Popen[bytes]] = []

    def start(root: Path, namespace: str) -> int:
        made.append(
            subprocess.Popen(
                [sys.executable, "-c", _SLEEPER, str(root), namespace], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        assert made[-1].stdout is not None
        assert made[-1].stdout.readline() == b"\n"
        return made[-1].pid

    yield start
    for popen in made:
        popen.communicate()


def found_in(chroot: Path, below: str) -> list[int]:
    command = [sys.executable, "-c", _ASKER, str(chroot), below]
    result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert isinstance(result, list)
    return result


@pytest.mark.parametrize("namespace", ["own", "the caller's"])
@pytest.mark.parametrize("root", ["root", "root/inner"])
@pytest.mark.parametrize("asked", [INSTANCE, f"{INSTANCE}/root"])
def test_a_process_is_found_by_its_root_from_inside_and_outside_of_a_chroot(
    chroot: Path, process: Callable[[Path, str], int], namespace: str, root: str, asked: str
) -> None:
    pid = process(chroot / INSTANCE / root, namespace)
    assert [found.pid for found in rooted(chroot / asked)] == [pid]
    assert found_in(chroot, asked) == [pid]


@pytest.mark.parametrize("namespace", ["own", "the caller's"])
@pytest.mark.parametrize("root", ["source", "elsewhere", "elsewhere/inner", "run", "."])
def test_a_process_with_the_same_directory_elsewhere_is_not_found(
    chroot: Path, process: Callable[[Path, str], int], namespace: str, root: str
) -> None:
    process(chroot / root, namespace)
    for asked in (INSTANCE, f"{INSTANCE}/root"):
        assert rooted(chroot / asked) == []
        assert found_in(chroot, asked) == []


def test_a_directory_that_is_gone_has_no_processes(chroot: Path, process: Callable[[Path, str], int]) -> None:
    process(chroot, "own")
    assert rooted(chroot / "gone") == []
