"""Processes found by their root directory, also by a caller whose own root is a plain chroot."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from fixture_types import InChild

from hvcore.host.processes.search import rooted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

INSTANCE: Final = "run/instances/web1"
CLONE_NEWNS: Final = 0x00020000
Starts = Callable[[Path, str], int]
Asks = Callable[[Path, str], list[int]]


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
def process(in_child: InChild) -> Starts:
    """A process with that root, in its own mount namespace or not."""

    def wait_in(root: Path, namespace: str, ready: int) -> None:
        if namespace == "own":
            assert ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0
        os.chroot(root)
        os.chdir("/")
        os.write(ready, b"x")
        signal.pause()

    def start(root: Path, namespace: str) -> int:
        reader, writer = os.pipe()
        pid = in_child(wait_in, root, namespace, writer, wait=False)
        os.close(writer)
        assert os.read(reader, 1) == b"x"
        os.close(reader)
        return pid

    return start


@pytest.fixture
def found_in(in_child: InChild) -> Asks:
    """What a caller in that chroot finds."""

    def ask(chroot: Path, below: str, answer: int) -> None:
        os.chroot(chroot)
        os.chdir("/")
        os.write(answer, json.dumps([process.pid for process in rooted(Path("/", below))]).encode())

    def found(chroot: Path, below: str) -> list[int]:
        reader, writer = os.pipe()
        assert in_child(ask, chroot, below, writer) == 0
        os.close(writer)
        with os.fdopen(reader, "rb") as answers:
            result = json.load(answers)
        assert isinstance(result, list)
        return result

    return found


@pytest.mark.parametrize("namespace", ["own", "the caller's"])
@pytest.mark.parametrize("root", ["root", "root/inner"])
@pytest.mark.parametrize("asked", [INSTANCE, f"{INSTANCE}/root"])
def test_a_process_is_found_by_its_root_from_inside_and_outside_of_a_chroot(
    chroot: Path, process: Starts, found_in: Asks, namespace: str, root: str, asked: str
) -> None:
    pid = process(chroot / INSTANCE / root, namespace)
    assert [found.pid for found in rooted(chroot / asked)] == [pid]
    assert found_in(chroot, asked) == [pid]


@pytest.mark.parametrize("namespace", ["own", "the caller's"])
@pytest.mark.parametrize("root", ["source", "elsewhere", "elsewhere/inner", "run", "."])
def test_a_process_with_the_same_directory_elsewhere_is_not_found(
    chroot: Path, process: Starts, found_in: Asks, namespace: str, root: str
) -> None:
    process(chroot / root, namespace)
    for asked in (INSTANCE, f"{INSTANCE}/root"):
        assert rooted(chroot / asked) == []
        assert found_in(chroot, asked) == []


def test_a_directory_that_is_gone_has_no_processes(chroot: Path, process: Starts) -> None:
    process(chroot, "own")
    assert rooted(chroot / "gone") == []
