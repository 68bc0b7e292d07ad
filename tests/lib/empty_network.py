"""A network namespace for a test, so that it changes no interface, route or rule of the machine."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

__all__ = ["NEEDS_ROOT", "Network", "empty_network"]

_CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
_OF_KERNEL: Final = [f"from all lookup {table}" for table in ("local", "main", "default")]
NEEDS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sudo ./dev test")


class Network:
    """The namespace that this thread and its children are in."""

    def ip(self, *words: str) -> str:
        """The output of ``ip``, which has to succeed."""
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
        return done.stdout

    def run(self, *command: str) -> str:
        """The output of a program of the node, which has to succeed."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def bridge(self, name: str = "br0", *more: str) -> str:
        """A new bridge, which is up."""
        self.ip("link", "add", name, *more, "type", "bridge")
        self.ip("link", "set", name, "up")
        return name

    def links(self) -> set[str]:
        """The names of all interfaces but ``lo``."""
        lines = self.ip("-o", "link").splitlines()
        return {line.split(": ")[1].partition("@")[0] for line in lines} - {"lo"}

    def about(self, name: str) -> str:
        """What ``ip`` shows of the interface; empty when there is none."""
        done = subprocess.run(["ip", "-d", "link", "show", name], capture_output=True, text=True, check=False)
        return done.stdout

    def forward(self, *, on: bool = True) -> None:
        """Let the namespace forward packets, or not."""
        for key in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            Path("/proc/sys/net", key).write_text(f"{on:d}", encoding="ascii")

    def rules(self) -> list[str]:
        """The routing rules that the kernel did not make, such as ``from all to 192.0.2.7 lookup 100 proto 104``."""
        lines = (self.ip("-4", "rule", "show") + self.ip("-6", "rule", "show")).splitlines()
        found = [line.partition("\t")[2].strip() for line in lines]
        return [line for line in found if "proto kernel" not in line and line not in _OF_KERNEL]

    def has_vlans(self) -> bool:
        """Whether bridges of this kernel can filter VLANs."""
        self.ip("link", "add", "probe0", "type", "bridge")
        done = subprocess.run(
            ["ip", "link", "set", "probe0", "type", "bridge", "vlan_filtering", "1"], capture_output=True, check=False
        )
        self.ip("link", "del", "probe0")
        return done.returncode == 0


@contextmanager
def empty_network() -> Iterator[Network]:
    """This thread is in a network namespace of its own until the block ends. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as before:
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "cannot make a network namespace")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield Network()
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0
