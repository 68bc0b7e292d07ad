"""Real images with a busybox root, a new node for each test, and the proof that it leaves nothing behind."""

from __future__ import annotations

import ctypes
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from images import Build, Images, Leftovers, Net, leftovers_of

import hvcore

CLONE_NEWNET = 0x40000000


@pytest.fixture
def net() -> Iterator[Net]:
    """A network namespace for the test, which has only its bridge again at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = Net()
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    assert libc.unshare(CLONE_NEWNET) == 0
    try:
        made.ip("link", "add", "br0", "type", "bridge")
        made.ip("address", "add", "10.77.0.1/24", "dev", "br0")
        made.ip("link", "set", "br0", "mtu", "1450", "up")
        yield made
        assert made.links() == {"lo", "br0"}
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0
        os.close(before)


@pytest.fixture
def mark() -> str:
    return f"hvtest-{uuid.uuid4().hex}"


@pytest.fixture
def images(tmp_path: Path, mark: str) -> Images:
    return Images(tmp_path, mark)


@pytest.fixture
def leftovers(tmp_path: Path, mark: str) -> Leftovers:
    return lambda: leftovers_of(tmp_path, mark)


@pytest.fixture
def progress() -> list[str]:
    return []


@pytest.fixture
def node(tmp_path: Path, mark: str, progress: list[str]) -> Iterator[hvcore.Node]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    assert leftovers_of(tmp_path, mark) == []
    made = hvcore.Node(tmp_path / "run", progress=progress.append)
    yield made
    try:
        give_up = time.monotonic() + 10  # a loop device that the test itself has unmounted goes when nobody looks at it
        while (left := leftovers_of(tmp_path, mark)) and time.monotonic() < give_up:
            if not all(one.startswith("loop ") for one in left):
                break
            time.sleep(0.01)
        assert left == []
    finally:
        for info in made.instances():
            made.stop(info.name, force=True)


@pytest.fixture
def other_node(node: hvcore.Node, tmp_path: Path) -> Iterator[hvcore.Node]:
    """The same node with its state in another run directory; `leftovers` covers its mounts and processes too."""
    made = hvcore.Node(tmp_path / "other-run", progress=lambda _: None)
    yield made
    for info in made.instances():
        made.stop(info.name, force=True)
    assert not list((tmp_path / "other-run/instances").glob("*"))


@pytest.fixture
def web1() -> Build:
    def build(image: Path | str, *, name: str = "web1", read_only: bool = False, **params: object) -> hvcore.Instance:
        if Path(image).is_dir() and not read_only and params.pop("as_root", True):
            return hvcore.Instance(name=name, driver="chroot", params={"root_directory": str(image), **params})
        disk = hvcore.Disk(path=str(image), read_only=read_only)
        return hvcore.Instance(name=name, driver="chroot", disks=(disk,), params=params)

    return build
