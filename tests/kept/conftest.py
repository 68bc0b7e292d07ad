"""Behaviour that must not change when the private code changes.

They use what host applications use (`hvcore.Node`, `hvcore.Instance`, the errors), the command ``hv``, files of the run
directory and /proc, and nothing else: `test_only_public.py` checks that.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kept_node
import pytest
from kept_node import Kept


@pytest.fixture(scope="session")
def needs() -> None:
    """Skip where nothing real can be started."""
    if os.geteuid() != 0:
        pytest.skip("needs root: sudo ./dev test")
    for program in ("qemu-system-x86_64", "swtpm", "bwrap", "mke2fs", "ip"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine: ./dev setup")


@pytest.fixture
def kept(needs: None, tmp_path: Path) -> Iterator[Kept]:
    """A node, with nothing left on it when the test is done."""
    os.chmod(tmp_path, 0o711)
    made = Kept(tmp_path)
    yield made
    for info in made.node.instances():
        made.node.stop(info.name, force=True)
    assert made.settled() == []
    for uid in made.uids:  # of killed programs; the next run may use the numbers again
        Path(f"/run/hvcore-uids/{uid}").unlink(missing_ok=True)


@pytest.fixture
def bridge(needs: None) -> Iterator[str]:
    """A network of the test's own with a bridge in it. Ask for it before a node, which remembers the interfaces."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    kept_node.unshare(kept_node.CLONE_NEWNET)
    try:
        subprocess.run(["ip", "link", "add", "br0", "type", "bridge"], check=True)
        subprocess.run(["ip", "link", "set", "br0", "up"], check=True)
        yield "br0"
    finally:
        assert libc.setns(before, kept_node.CLONE_NEWNET) == 0
        os.close(before)
