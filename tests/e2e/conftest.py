"""The paths of Debian's kernel and busybox, and a separate node for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from initramfs import busybox_guest
from kernel_modules import kernel_modules

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
    return kernel_modules(kernel, "button", "evdev")


@pytest.fixture
def network_modules(kernel: Path) -> dict[str, bytes]:
    """The driver of paravirtual NICs and what it needs."""
    return kernel_modules(kernel, "virtio_pci", "virtio_net")
