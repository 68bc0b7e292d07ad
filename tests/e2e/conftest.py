"""The paths of Debian's kernel and busybox, and a separate node for each test."""

from __future__ import annotations

import lzma
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from initramfs import busybox_guest
from served_guest import MODULES

import hvcore

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[hvcore.Node]:
    """An empty node; what a test leaves running is ended, and nothing else may be left."""
    if shutil.which("qemu-system-x86_64") is None or shutil.which("bwrap") is None:
        pytest.skip("no qemu-system-x86_64 and bwrap on this machine: ./dev setup")
    node = hvcore.Node(tmp_path / "run")
    yield node
    for info in node.instances():
        node.stop(info.name, force=True)
    left = [path for path in node.run_dir.rglob("*") if not path.is_dir() and "cache" not in path.parts]
    assert [path for path in left if path.name != ".disks"] == []


@pytest.fixture
def kernel() -> Path:
    """Debian's kernel for clouds, unpacked and never installed."""
    found = TOP / ".cache/kernel/vmlinuz"
    if not found.exists():
        pytest.skip("no Linux kernel in .cache/kernel: ./dev setup")
    return found.resolve()


@pytest.fixture
def initrd() -> Callable[..., bytes]:
    """Makes a ram disk with a busybox in it that needs no library: ``initrd(greeting, modules)``."""
    found = shutil.which("busybox")
    if found is None:
        pytest.skip("no busybox-static on this machine: ./dev setup")
    data = Path(found).read_bytes()
    if b"ld-linux" in data[:4096]:
        pytest.skip("this busybox needs libraries: ./dev setup")

    def make(greeting: str, modules: dict[str, bytes]) -> bytes:
        return busybox_guest(greeting, data, modules)

    return make


@pytest.fixture
def modules(kernel: Path) -> dict[str, bytes]:
    """The power button's driver, and the one that shows what was pressed to programs."""
    return _modules(kernel, ("button", "evdev"))


@pytest.fixture
def network_modules(kernel: Path) -> dict[str, bytes]:
    """The driver of paravirtual NICs and what it needs, named in the order in which they are loaded."""
    found = _modules(kernel, MODULES)
    return {f"{number:02}-{name}": found[name] for number, name in enumerate(f"{one}.ko" for one in MODULES)}


def _modules(kernel: Path, names: Sequence[str]) -> dict[str, bytes]:
    trees = (kernel.parents[1] / folder for folder in ("lib/modules", "usr/lib/modules"))
    found = {path.name.removesuffix(".xz"): path for tree in trees for path in tree.rglob("*.ko*")}
    wanted = {f"{name}.ko": found[f"{name}.ko"] for name in names if f"{name}.ko" in found}
    return {name: _unpacked(path) for name, path in wanted.items() if os.access(path, os.R_OK)}


def _unpacked(module: Path) -> bytes:
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data
