"""A real guest finds the card: a Linux kernel reports it on its serial console."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import hvcore

VENDOR_AND_DEVICE = rb"pci \S+: \[8086:25ab\]"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[hvcore.Node]:
    """A node without instances; those that a test leaves are stopped."""
    node = hvcore.Node(tmp_path / "run")
    yield node
    for info in node.instances():
        node.stop(info.name, force=True)


@pytest.fixture
def kernel() -> str:
    """A kernel for the guest, with a driver for its serial port; all users can read Debian's."""
    path = os.environ.get("KERNEL")
    if path is None:
        pytest.skip("no kernel to boot: KERNEL=/boot/vmlinuz pytest")
    return path


@pytest.mark.live
@pytest.mark.parametrize(("machine", "action"), [("pc", "poweroff"), ("q35", "inject-nmi")])
def test_linux_finds_the_card_on_its_bus(node: hvcore.Node, kernel: str, machine: str, action: str) -> None:
    params: dict[str, object] = {"kvm_flag": "disabled", "machine_version": machine, "kernel_path": kernel}
    params |= {"watchdog": True, "watchdog_action": action}
    node.driver("kvm").start(hvcore.Instance(name="web1", driver="kvm", params=params), paused=True)
    with socket.socket(socket.AF_UNIX) as serial:  # before the guest runs: output without a reader is lost
        serial.connect(node.console("web1").socket or "")
        serial.settimeout(60)
        node.resume("web1")
        said = b""
        while not re.search(VENDOR_AND_DEVICE, said) and b"Run /init" not in said and b"panic" not in said:
            said += serial.recv(4096)
    assert re.search(VENDOR_AND_DEVICE, said), said.decode(errors="replace")
